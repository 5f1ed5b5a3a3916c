using System.Text.Json;
using MLNetLora;
using MLNetLora.Quantization;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace CompanyQa;

/// <summary>
/// A training recipe in a JSON file, under the names that PEFT (r, lora_alpha, …), transformers (learning_rate, optim, …), TRL (max_length) and
/// bitsandbytes (load_in_4bit, …) have for its options. What is not in the file stays at the library's default.
/// </summary>
internal static class Recipe
{
    private const int LongestFile = 1 << 20;

    private static readonly JsonDocumentOptions s_json = new()
    {
        AllowDuplicateProperties = false,
        AllowTrailingCommas = true,
        CommentHandling = JsonCommentHandling.Skip,
    };

    private static readonly Dictionary<string, Action<QwenLoraTrainer.Options, Setting>> s_keys = new(StringComparer.Ordinal)
    {
        ["r"] = (o, value) => o.Rank = value.Integer,
        ["lora_alpha"] = (o, value) => o.Alpha = value.Number,
        ["lora_dropout"] = (o, value) => o.Dropout = value.Number,
        ["target_modules"] = (o, value) => o.TargetModules = value.IsText ? value.Text : value.Texts,
        ["use_rslora"] = (o, value) => o.UseRsLora = value.Flag,
        ["loraplus_lr_ratio"] = (o, value) => o.LoraPlusRatio = value.Number,
        ["per_device_train_batch_size"] = (o, value) => o.BatchSize = value.Integer,
        ["gradient_accumulation_steps"] = (o, value) => o.GradientAccumulationSteps = value.Integer,
        ["gradient_checkpointing"] = (o, value) => o.ActivationCheckpointing = value.Flag,
        ["learning_rate"] = (o, value) => o.LearningRate = value.Number,
        ["lr_scheduler_type"] = (o, value) => o.Schedule = value.OneOf(
            ("linear", LearningRateSchedule.Linear), ("cosine", LearningRateSchedule.Cosine), ("constant_with_warmup", LearningRateSchedule.Constant)),
        ["warmup_ratio"] = (o, value) => o.WarmupRatio = value.Number,
        ["warmup_steps"] = (o, value) => o.WarmupSteps = value.Integer,
        ["num_train_epochs"] = (o, value) => o.NumberOfEpochs = value.Integer,
        ["max_steps"] = (o, value) => o.MaximumSteps = value.Integer,
        ["max_length"] = (o, value) => o.MaximumSequenceLength = value.Integer,
        ["max_grad_norm"] = (o, value) => o.MaximumGradientNorm = value.Number,
        ["weight_decay"] = (o, value) => o.WeightDecay = value.Number,
        ["optim"] = (o, value) => o.Optimizer = OptimizerNames.Parse(value.Text),
        ["seed"] = (o, value) => o.Seed = value.Integer,
    };

    /// <summary>What decides together how the base is held: load_in_4bit, and with it the others.</summary>
    private static readonly string[] s_fourBit = ["load_in_4bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant"];

    /// <summary>Sets the options of a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="options">What is set; it is validated when a trainer is made of it.</param>
    /// <exception cref="OptionException">The file is not there or not JSON, a key is not known, or a value is not of its kind.</exception>
    public static void Read(string path, QwenLoraTrainer.Options options)
    {
        Dictionary<string, Setting> settings = Settings(path);
        foreach ((string key, Setting value) in settings)
        {
            if (s_keys.TryGetValue(key, out Action<QwenLoraTrainer.Options, Setting>? set))
            {
                set(options, value);
            }
            else if (!s_fourBit.Contains(key))
            {
                string nearest = s_keys.Keys.Concat(s_fourBit).MinBy(known => Distance(key, known))!;
                throw new OptionException($"{path}: '{key}' is not a key that a recipe has; the nearest one is '{nearest}'.");
            }
        }

        bool loadsFourBit = settings.TryGetValue(s_fourBit[0], out Setting? load) && load.Flag;
        if (!loadsFourBit && s_fourBit.FirstOrDefault(key => key != s_fourBit[0] && settings.ContainsKey(key)) is string alone)
        {
            throw new OptionException($"{path}: {alone} says how a base in 4 bits is held; set {s_fourBit[0]} to true, or take {alone} out.");
        }

        if (loadsFourBit)
        {
            bool isDouble = settings.TryGetValue(s_fourBit[2], out Setting? twice) && twice.Flag;
            options.Precision = settings.TryGetValue(s_fourBit[1], out Setting? type)
                ? type.OneOf(
                    ("nf4", isDouble ? WeightPrecision.Nf4Double : WeightPrecision.Nf4),
                    ("fp4", isDouble ? WeightPrecision.Fp4Double : WeightPrecision.Fp4))
                : isDouble ? WeightPrecision.Fp4Double : WeightPrecision.Fp4; // bitsandbytes' default is fp4
        }
    }

    private static Dictionary<string, Setting> Settings(string path)
    {
        try
        {
            FileInfo file = new(path);
            if (file.Length > LongestFile)
            {
                throw new OptionException($"{path} has {file.Length} bytes; a recipe has at most {LongestFile}.");
            }

            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path), s_json);
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? document.RootElement.EnumerateObject().ToDictionary(item => item.Name, item => new Setting(path, item.Name, item.Value.Clone()))
                : throw new OptionException($"{path} is not a recipe: it must be a JSON object such as {{\"r\": 64}}.");
        }
        catch (JsonException e)
        {
            throw new OptionException($"{path} is not JSON: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OptionException($"The recipe cannot be read: {e.Message}", e);
        }
    }

    /// <summary>How many letters must be changed, added or left out to make one word of the other (Levenshtein).</summary>
    private static int Distance(string from, string to)
    {
        from = from.Length <= 64 ? from : from[..64];
        int[] row = [.. Enumerable.Range(0, to.Length + 1)];
        foreach ((int i, char letter) in from.Index())
        {
            int diagonal = row[0];
            row[0] = i + 1;
            for (int j = 0; j < to.Length; j++)
            {
                int changed = diagonal + (letter == to[j] ? 0 : 1);
                diagonal = row[j + 1];
                row[j + 1] = Math.Min(changed, Math.Min(row[j], diagonal) + 1);
            }
        }

        return row[^1];
    }

    /// <summary>A value, which is asked for as what it must be.</summary>
    private sealed record Setting(string File, string Key, JsonElement Value)
    {
        public int Integer => Value.ValueKind == JsonValueKind.Number && Value.TryGetInt32(out int integer) ? integer : throw Wrong("a whole number");

        public double Number => Value.ValueKind == JsonValueKind.Number ? Value.GetDouble() : throw Wrong("a number");

        public bool Flag => Value.ValueKind is JsonValueKind.True or JsonValueKind.False ? Value.GetBoolean() : throw Wrong("true or false");

        public bool IsText => Value.ValueKind == JsonValueKind.String;

        public string Text => IsText ? Value.GetString()! : throw Wrong("a text");

        public string[] Texts => Value.ValueKind == JsonValueKind.Array && Value.EnumerateArray().All(item => item.ValueKind == JsonValueKind.String)
            ? [.. Value.EnumerateArray().Select(item => item.GetString()!)]
            : throw Wrong("a list of texts");

        public T OneOf<T>(params (string Name, T Value)[] values)
        {
            int at = Array.FindIndex(values, value => IsText && value.Name == Text);
            return at >= 0 ? values[at].Value : throw Wrong(string.Join(" or ", values.Select(value => $"\"{value.Name}\"")));
        }

        private OptionException Wrong(string allowed)
        {
            string raw = Value.GetRawText();
            return new OptionException($"{File}: {Key} is {(raw.Length <= 100 ? raw : raw[..100] + "…")}; it must be {allowed}.");
        }
    }
}
