using System.IO.Compression;
using System.Reflection;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Inference;
using MLNetLora.Quantization;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

public sealed class ModelZipTests : IDisposable
{
    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void What_was_saved_comes_back()
    {
        GenerationOptions generation = new()
        {
            MaximumNewTokens = 17,
            Temperature = 0.5f,
            TopK = 3,
            TopP = 0.75f,
            MinP = 0.125f,
            RepetitionPenalty = 1.25f,
            PresencePenalty = -0.5f,
            FrequencyPenalty = 0.25f,
            LogitBias = new Dictionary<int, float> { [3] = -100, [4] = 1.5f },
            Seed = 9,
            StopStrings = ["完", "\n\n"],
            StopTokenIds = [5, 6],
            IgnoreEndOfText = true,
            MinimumNewTokens = 2,
            TopLogprobs = 1,
            ContinueFinalMessage = true,
            PromptLookupTokens = 7,
            Constraint = OutputConstraint.JsonSchema("""{"type": "integer"}"""),
            BatchSize = 2,
            WhenPromptTooLong = PromptOverflow.TruncateLeft,
        };
        IEnumerable<PropertyInfo> all = typeof(GenerationOptions).GetProperties();
        Assert.All(all, option => // none is forgotten here
            Assert.NotEqual(option.GetValue(new GenerationOptions()), option.GetValue(generation)));
        using QwenLoraTransformer saved = _bench.Model(options =>
        {
            options.Generation = generation;
            options.WeightPrecision = WeightPrecision.Int4;
            options.SystemPrompt = "简短回答。";
            options.PromptTemplate = "问：{instruction}";
            options.MaximumSequenceLength = 99;
            options.AnswerColumnName = "Reply";
        });
        using QwenLoraTransformer loaded = Load(_bench.Save(saved), out DataViewSchema schema);

        Assert.Equal(["Instruction", "Input", "Output"], schema.Select(column => column.Name));
        Assert.Equal("Reply", loaded.Transform(_bench.Rows).Schema[^1].Name);
        Assert.Equal(_bench.BaseFolder, loaded.BaseFolder);
        Assert.Null(loaded.TrainingSummary);
        Assert.Equal(saved.Adapter.ToSafetensors(), loaded.Adapter.ToSafetensors());
        Assert.Equal(saved.Adapter.ToPeftConfigJson(), loaded.Adapter.ToPeftConfigJson());
        Assert.Equal(new PromptOptions("简短回答。", "问：{instruction}", MLNetLora.Text.LabelScope.Answer, 99), loaded.Model.Prompt);
        Assert.Equivalent(generation, loaded.Model.Generation, strict: true);
        Assert.Equal(generation.Constraint.Source, loaded.Model.Generation.Constraint!.Source);
        Assert.Equal(WeightPrecision.Int4, loaded.Model.Precision);
    }

    [Fact]
    public void Every_kind_of_constraint_comes_back()
    {
        string tool = """{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}""";
        System.Text.Json.JsonElement[] tools = [System.Text.Json.JsonDocument.Parse(tool).RootElement];
        foreach (OutputConstraint constraint in (OutputConstraint[])[
            OutputConstraint.JsonObject, OutputConstraint.Regex("a+"), OutputConstraint.JsonSchema("{}"), OutputConstraint.ToolCalls(tools, false, "f", false)])
        {
            using QwenLoraTransformer saved = _bench.Model(options => options.Generation.Constraint = constraint);
            using QwenLoraTransformer loaded = Load(_bench.Save(saved), out _);
            Assert.Equivalent(constraint.Source, loaded.Model.Generation.Constraint!.Source, strict: true);
            Assert.Equal(constraint.ToString(), loaded.Model.Generation.Constraint.ToString());
        }
    }

    [Fact]
    public void An_adapter_whose_configuration_has_17_MB_comes_back_as_it_does_from_a_folder()
    {
        TinyCheckpoint.Adapter(_bench.BaseFolder).SaveAsPeft(_bench.PathOf("adapter"));
        string file = Path.Combine(_bench.PathOf("adapter"), "adapter_config.json");
        JsonObject config = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
        config["exclude_modules"] = new JsonArray(new string('x', 17 << 20));
        File.WriteAllText(file, config.ToJsonString());
        using QwenLoraTransformer model = _bench.Context.TextGeneration.LoadAdapter(_bench.BaseFolder, _bench.PathOf("adapter"));
        using QwenLoraTransformer loaded = Load(_bench.Save(model), out _);
        Assert.Equal(model.Adapter.ToPeftConfigJson(), loaded.Adapter.ToPeftConfigJson());
    }

    [Fact]
    public void A_loaded_model_answers_as_the_saved_one()
    {
        using QwenLoraTransformer saved = _bench.Fit();
        using QwenLoraTransformer loaded = Load(_bench.Save(saved), out _);
        string[] answers = [.. saved.Transform(_bench.Rows).GetColumn<string>("Answer")];

        Assert.Equal(3, answers.Distinct().Count());
        Assert.Equal(answers, loaded.Transform(_bench.Rows).GetColumn<string>("Answer"));
    }

    [Fact]
    public void The_adapter_in_the_zip_is_a_peft_folder()
    {
        using QwenLoraTransformer model = _bench.Model();
        using ZipArchive zip = ZipFile.OpenRead(_bench.Save(model));
        model.Adapter.SaveAsPeft(_bench.PathOf("peft"));

        foreach (string name in (string[])["adapter_config.json", "adapter_model.safetensors"])
        {
            using Stream entry = zip.Entries.Single(entry => entry.Name == name).Open();
            using MemoryStream content = new();
            entry.CopyTo(content);
            Assert.Equal(File.ReadAllBytes(Path.Combine(_bench.PathOf("peft"), name)), content.ToArray());
        }
    }

    [Fact]
    public void A_zip_whose_directory_is_damaged_is_a_typed_error()
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        byte[] bytes = File.ReadAllBytes(zip);
        bytes[bytes.AsSpan().IndexOf("PK\u0001\u0002"u8)] = 0; // of the first entry in the directory
        File.WriteAllBytes(zip, bytes);
        Assert.Throws<AdapterException>(() => _bench.Context.TextGeneration.Load(zip));
    }

    [Fact]
    public void A_loaded_model_can_be_saved_again_and_without_a_view_at_hand()
    {
        using QwenLoraTransformer model = _bench.Model();
        using QwenLoraTransformer second = Load(_bench.Save(model), out _);
        _bench.Context.Model.Save(second, second.InputSchema, _bench.PathOf("again.zip"));
        using QwenLoraTransformer third = Load(_bench.PathOf("again.zip"), out DataViewSchema schema);

        Assert.Equal(["Instruction", "Input"], schema.Select(column => column.Name));
        Assert.Equal(_bench.Answer("what"), third.Generate("what"));
    }

    [Fact]
    public void A_record_from_before_there_were_more_columns_reads_none_of_them()
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        JsonNode record = JsonNode.Parse(Record(zip))!;
        JsonObject columns = record["columns"]!.AsObject();
        foreach (string name in (string[])["system", "history", "conversation", "text"])
        {
            Assert.True(columns.Remove(name));
        }

        columns["instruction"] = "Text"; // a name that has a meaning of its own today
        Replace(zip, "mlnetlora.json", Encoding.UTF8.GetBytes(record.ToJsonString()));
        using QwenLoraTransformer loaded = Load(zip, out _);
        Assert.Equal(_bench.Answer("what"), loaded.Generate("what"));
    }

    [Fact]
    public void A_process_that_never_touched_the_library_loads_the_real_type()
    {
        using QwenLoraTransformer model = _bench.Model();

        Assert.Equal(
            ["touched: False", "columns: Instruction,Input,Output", "type: MLNetLora.TextGeneration.QwenLoraTransformer",
                LoadProbe.Line(_bench.Answer("what"))],
            LoadProbe.Run(_bench.Save(model), "what"));
    }

    [Fact]
    public void So_it_does_within_a_chain()
    {
        using TransformerChain<QwenLoraTransformer> chain = _bench.Context.Transforms.CopyColumns("Kept",
            "Instruction").Append(_bench.Trainer()).Fit(_bench.Rows);

        Assert.Equal(["touched: False", "columns: Instruction,Input,Output", "type: Microsoft.ML.Transforms.ColumnCopyingTransformer",
            "type: MLNetLora.TextGeneration.QwenLoraTransformer", LoadProbe.Line(chain.LastTransformer.Generate("what"))],
            LoadProbe.Run(_bench.Save(chain), "what"));
    }

    [Fact]
    public void A_moved_base_is_told_and_found_again_by_the_environment_variable()
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        string answer = _bench.Answer("what");
        Directory.Move(_bench.BaseFolder, _bench.PathOf("moved"));

        string error = string.Join('\n', LoadProbe.Run(zip, "what"));
        Assert.Contains("error: TargetInvocationException: CheckpointException: The model's base checkpoint", error);
        Assert.Contains($"{_bench.BaseFolder} (as given at training, from the working directory): there is no such folder.", error);
        Assert.Contains("ml.TextGeneration.UseBaseModel(folder or hub id) before ml.Model.Load, or with the environment variable MLNETLORA_BASE_MODEL", error);

        // One variable for several models: the folder that holds this model's base is taken.
        string other = TinyCheckpoint.Write(_bench.PathOf("other"), seed: 2);
        Assert.Contains(LoadProbe.Line(answer), LoadProbe.Run(zip, "what", other + Path.PathSeparator + _bench.PathOf("moved")));
        error = string.Join('\n', LoadProbe.Run(zip, "what", other));
        Assert.Contains($"{other} (MLNETLORA_BASE_MODEL): model.safetensors differs: the same tensors, but other weights", error);
    }

    [Fact]
    public void A_moved_base_is_found_where_the_program_says()
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        Directory.Move(_bench.BaseFolder, _bench.PathOf("moved"));

        MLContext context = new MLContext();
        context.TextGeneration.UseBaseModel(_bench.PathOf("elsewhere"));
        Assert.Contains($"{_bench.PathOf("elsewhere")} (ml.TextGeneration.UseBaseModel): there is no such folder.", Refusal<CheckpointException>(zip, context));
        context.TextGeneration.UseBaseModel(_bench.PathOf("moved"));
        using QwenLoraTransformer loaded = (QwenLoraTransformer)context.Model.Load(zip, out _);
        Assert.Equal(_bench.PathOf("moved"), loaded.BaseFolder);

        // Saved from here, the model is looked for here.
        Assert.Equal(_bench.PathOf("moved"), Load(_bench.Save(loaded, "again.zip"), out _).BaseFolder);
        Assert.Contains("there is no such folder", Refusal<CheckpointException>(zip, new MLContext()));
    }

    [Fact]
    public void A_relative_base_is_looked_for_from_the_working_directory()
    {
        string relative = Path.GetRelativePath(Environment.CurrentDirectory, _bench.BaseFolder);
        using QwenLoraTransformer model = _bench.Model(options => options.ModelPath = relative);
        string zip = _bench.Save(model);
        Directory.CreateDirectory(_bench.PathOf("a/b"));

        Assert.Contains($"\"location\": \"{relative}\"", Record(zip));
        Assert.Equal(_bench.BaseFolder, Load(zip, out _).BaseFolder);
    }

    [Theory]
    [InlineData("model.safetensors", 15, "model.safetensors differs: a header with SHA-256 ")]
    [InlineData("model.safetensors", 200_000, "model.safetensors differs: the same tensors, but other weights")]
    [InlineData("model.safetensors", 7, "{BASE}/model.safetensors announces a header of")]
    public void A_different_base_is_told_with_the_file_that_differs(string file, int position, string message)
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        byte[] bytes = File.ReadAllBytes(Path.Combine(_bench.BaseFolder, file));

        // More than one byte: the sample is of blocks of 512 bytes, and any real training changes every row of a tensor.
        bytes.AsSpan(position, Math.Min(2000, position < 100 ? 1 : 2000)).Fill((byte)'x');
        File.WriteAllBytes(Path.Combine(_bench.BaseFolder, file), bytes);

        Assert.Contains(
            $"{_bench.BaseFolder} (as given at training, from the working directory): {message.Replace("{BASE}", _bench.BaseFolder, StringComparison.Ordinal)}",
            Refusal<CheckpointException>(zip));
    }

    [Fact]
    public void A_base_of_another_size_or_with_missing_files_is_told()
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        string weights = Path.Combine(_bench.BaseFolder, "model.safetensors");
        long size = new FileInfo(weights).Length;
        using (FileStream stream = new(weights, FileMode.Append))
        {
            stream.WriteByte(0);
        }

        Assert.Contains($"model.safetensors differs: {size} bytes were expected, it has {size + 1}.", Refusal<CheckpointException>(zip));
        File.Delete(weights);
        Assert.Contains("model.safetensors is missing.", Refusal<CheckpointException>(zip));
        File.Delete(Path.Combine(_bench.BaseFolder, "config.json"));
        Assert.Contains("config.json is missing.", Refusal<CheckpointException>(zip));
    }

    [Fact]
    public void A_sharded_base_is_recorded_by_the_files_of_its_index()
    {
        TinyCheckpoint.Shard(_bench.BaseFolder, "model-00001-of-00001.safetensors");
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);

        // A file that is not part of the checkpoint is nobody's business.
        File.WriteAllText(Path.Combine(_bench.BaseFolder, "adapter_model.safetensors"), "");
        Assert.Equal(_bench.Answer("what"), Load(zip, out _).Generate("what"));
        File.Delete(Path.Combine(_bench.BaseFolder, "model-00001-of-00001.safetensors"));
        Assert.Contains("model-00001-of-00001.safetensors is missing.", Refusal<CheckpointException>(zip));
    }

    [Theory]
    [InlineData("\"name\": \"model.safetensors\"", "\"name\": \"../../secret.safetensors\"", "only plain names of .safetensors files are accepted")]
    [InlineData("\"name\": \"model.safetensors\"", "\"name\": \"..\\\\secret.safetensors\"", "only plain names of .safetensors files are accepted")]
    [InlineData("\"name\": \"model.safetensors\"", "\"name\": \"passwd\"", "only plain names of .safetensors files are accepted")]
    [InlineData("\"format\": 2", "\"format\": 3", "has format 3, this version of MLNetLora reads 1 to 2; update the package")]
    [InlineData("\"format\": 2", "\"format\": 0", "has format 0, this version of MLNetLora reads 1 to 2; update the package")]
    [InlineData("\"instruction\": \"Instruction\"", "\"instruction\": null", "mlnetlora.json cannot be used")]
    [InlineData("\"batch_size\": 8", "\"batch_size\": 0", "BatchSize is 0; it must be between 1 and 4096")]
    [InlineData("\"weight_precision\": \"checkpoint\"", "\"weight_precision\": \"int3\"", "mlnetlora.json cannot be used")]
    [InlineData("\"total_size\": ", "\"total_size\": 1", "record of the base checkpoint contradicts itself")]
    [InlineData("\"location\": \"", "\"location\": \"\", \"x\": \"", "is no path; the zip is damaged")]
    [InlineData("\"location\": \"", "\"location\": \"\\u0000", "is no path; the zip is damaged")]
    [InlineData("\"absolute_path\": \"", "\"absolute_path\": \"\\u0000", "is no path; the zip is damaged")]
    [InlineData("\"size\": ", "\"size\": -1, \"x\": ", "record of the base checkpoint contradicts itself")]
    [InlineData("\"files\": [", "\"files\": [ null, ", "record of the base checkpoint contradicts itself")]
    [InlineData("\"files\": [", "\"files\": [ {\"name\":\"a.safetensors\",\"size\":9223372036854775807,\"header_sha256\":\"\"}, ",
        "record of the base checkpoint contradicts itself")]
    [InlineData("{", "", "mlnetlora.json cannot be used")]
    public void A_record_that_was_tampered_with_is_refused(string old, string replacement, string message)
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        string record = Record(zip);
        int at = record.IndexOf(old, StringComparison.Ordinal);
        Assert.True(at >= 0, record);
        Replace(zip, "mlnetlora.json", Encoding.UTF8.GetBytes(record[..at] + replacement + record[(at + old.Length)..]));

        Assert.Contains(message, Refusal<AdapterException>(zip));
    }

    [Fact]
    public void A_bit_that_was_flipped_in_the_adapter_is_seen()
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        byte[] bytes = File.ReadAllBytes(zip);
        Random random = new(1);
        int opened = 0;
        for (int i = 0; i < 60; i++)
        {
            byte[] flipped = [.. bytes];
            flipped[random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
            File.WriteAllBytes(zip, flipped);
            try
            {
                using QwenLoraTransformer loaded = new MLContext().TextGeneration.Load(zip);
                Assert.Equal(model.Adapter.ToSafetensors(), loaded.Adapter.ToSafetensors()); // what else is in the zip may be other
                opened++;
            }
            catch (MLNetLoraException)
            {
                // Seen.
            }
        }

        Assert.InRange(opened, 0, 59);
    }

    [Fact]
    public void A_folder_is_told_apart()
    {
        Assert.Contains("is a folder, not a model zip", Assert.Throws<AdapterException>(() => new MLContext().TextGeneration.Load(_bench.BaseFolder)).Message);
    }

    [Fact]
    public void A_location_longer_than_any_path_is_refused()
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        Replace(zip, "mlnetlora.json",
            Encoding.UTF8.GetBytes(Record(zip).Replace("\"location\": \"", "\"location\": \"" + new string('x', 100_000), StringComparison.Ordinal)));

        Assert.Contains("is no path; the zip is damaged", Refusal<AdapterException>(zip));
    }

    [Fact]
    public void An_index_beside_a_whole_file_is_not_what_is_recorded()
    {
        // The engine reads model.safetensors where there is one; the index of shards that are gone must not count.
        File.WriteAllText(Path.Combine(_bench.BaseFolder, "model.safetensors.index.json"),
            """{"weight_map":{"model.norm.weight":"model-00001-of-00002.safetensors"}}""");
        using QwenLoraTransformer model = _bench.Model();

        string zip = _bench.Save(model);
        Assert.Contains("\"name\": \"model.safetensors\"", Record(zip));
        Assert.Equal(_bench.BaseFolder, Load(zip, out _).BaseFolder);
    }

    [Fact]
    public void Network_paths_in_the_zip_are_not_followed()
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        string json = Record(zip).Replace($"\"{_bench.BaseFolder}\"", "\"//server/share\"", StringComparison.Ordinal);
        Replace(zip, "mlnetlora.json", Encoding.UTF8.GetBytes(json));

        string message = Refusal<CheckpointException>(zip);
        Assert.Contains("Looked in:\n", message.ReplaceLineEndings("\n"));
        Assert.DoesNotContain("server/share (", message);
    }

    [Fact]
    public void Entries_that_are_too_large_or_missing_are_refused()
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        Replace(zip, "mlnetlora.json", new byte[(16 << 20) + 1]);
        Assert.Contains($"has {(16 << 20) + 1} bytes, more than the {16 << 20} that it may have", Refusal<AdapterException>(zip));
        Replace(zip, "mlnetlora.json", null);
        Assert.Contains("mlnetlora.json; it is damaged, save the model again", Refusal<AdapterException>(zip));
    }

    [Fact]
    public void Only_one_file_knows_the_internals_of_MLNet()
    {
        string[] words = ["ModelLoadContext", "VersionInfo", "LoadableClass", "RepositoryReader", "IHostEnvironmentInternal", "UnsafeAccessor",
            "IgnoresAccessChecksTo"];
        string source = Path.Combine(SourceFolder(), "../../../src/MLNetLora");
        string[] users = [.. Directory.EnumerateFiles(source, "*.cs",
            SearchOption.AllDirectories).Where(file => !file.Contains($"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}"))
            .Where(file => words.Any(File.ReadAllText(file).Contains)).Select(file => Path.GetFileName(file)!)];

        Assert.Equal(["MLNetInternals.cs"], users);
    }

    private static string SourceFolder([System.Runtime.CompilerServices.CallerFilePath] string path = "") => Path.GetDirectoryName(path)!;

    private static QwenLoraTransformer Load(string zip, out DataViewSchema schema) => (QwenLoraTransformer)new MLContext().Model.Load(zip, out schema);

    /// <summary>ML.NET calls loaders by reflection, so their errors come wrapped.</summary>
    private static string Refusal<TException>(string zip, MLContext? context = null)
        where TException : Exception
    {
        TargetInvocationException wrapped = Assert.Throws<TargetInvocationException>(() => (context ?? new MLContext()).Model.Load(zip, out _));
        return Assert.IsType<TException>(wrapped.InnerException).Message;
    }

    private static string Record(string path)
    {
        using ZipArchive zip = ZipFile.OpenRead(path);
        using StreamReader reader = new(zip.Entries.Single(entry => entry.Name == "mlnetlora.json").Open());
        return reader.ReadToEnd();
    }

    private static void Replace(string path, string name, byte[]? content)
    {
        using ZipArchive zip = ZipFile.Open(path, ZipArchiveMode.Update);
        ZipArchiveEntry entry = zip.Entries.Single(entry => entry.Name == name);
        string fullName = entry.FullName;
        entry.Delete();
        if (content is not null)
        {
            using Stream stream = zip.CreateEntry(fullName).Open();
            stream.Write(content);
        }
    }
}
