using System.Text.Json;
using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

public sealed partial class QwenLoraTrainer
{
    /// <summary>Everything that can be said about a fine-tuning run. Only <see cref="ModelPath"/> has no default.</summary>
    public sealed class Options
    {
        /// <summary>
        /// The base checkpoint: a Hugging Face folder with config.json, tokenizer files and .safetensors weights of a Qwen model, or a hub id such as
        /// Qwen/Qwen2.5-0.5B-Instruct that the Hugging Face cache of this machine already holds (see <see cref="Checkpoints.ModelFolder"/>); nothing is downloaded.
        /// </summary>
        public string ModelPath { get; set; } = "";

        /// <inheritdoc cref="LoraOptions.Rank"/>
        public int Rank { get; set; } = 64;

        /// <inheritdoc cref="LoraOptions.Alpha"/>
        public double Alpha { get; set; } = 16;

        /// <inheritdoc cref="LoraOptions.Dropout"/>
        public double Dropout { get; set; } = 0.05;

        /// <inheritdoc cref="LoraOptions.TargetModules"/>
        public TargetModules TargetModules { get; set; } = ["q_proj", "v_proj"];

        /// <inheritdoc cref="LoraOptions.UseRsLora"/>
        public bool UseRsLora { get; set; }

        /// <inheritdoc cref="LoraOptions.LayersToTransform"/>
        public IReadOnlyList<int>? LayersToTransform { get; set; }

        /// <inheritdoc cref="LoraOptions.RankPattern"/>
        public IReadOnlyDictionary<string, int> RankPattern { get; set; } = new Dictionary<string, int>();

        /// <inheritdoc cref="LoraOptions.AlphaPattern"/>
        public IReadOnlyDictionary<string, double> AlphaPattern { get; set; } = new Dictionary<string, double>();

        /// <inheritdoc cref="TrainingOptions.BatchSize"/>
        public int BatchSize { get; set; } = 1;

        /// <inheritdoc cref="TrainingOptions.GradientAccumulationSteps"/>
        public int GradientAccumulationSteps { get; set; } = 8;

        /// <inheritdoc cref="TrainingOptions.LearningRate"/>
        public double LearningRate { get; set; } = 2e-4;

        /// <inheritdoc cref="TrainingOptions.NumberOfEpochs"/>
        public int NumberOfEpochs { get; set; } = 3;

        /// <inheritdoc cref="TrainingOptions.MaximumSteps"/>
        public int? MaximumSteps { get; set; }

        /// <inheritdoc cref="TrainingOptions.Schedule"/>
        public LearningRateSchedule Schedule { get; set; } = LearningRateSchedule.Linear;

        /// <inheritdoc cref="TrainingOptions.WarmupSteps"/>
        public int WarmupSteps { get; set; }

        /// <inheritdoc cref="TrainingOptions.WarmupRatio"/>
        public double WarmupRatio { get; set; }

        /// <inheritdoc cref="TrainingOptions.WeightDecay"/>
        public double WeightDecay { get; set; }

        /// <inheritdoc cref="TrainingOptions.AdamBeta1"/>
        public double AdamBeta1 { get; set; } = 0.9;

        /// <inheritdoc cref="TrainingOptions.AdamBeta2"/>
        public double AdamBeta2 { get; set; } = 0.999;

        /// <inheritdoc cref="TrainingOptions.AdamEpsilon"/>
        public double AdamEpsilon { get; set; } = 1e-8;

        /// <inheritdoc cref="TrainingOptions.MaximumGradientNorm"/>
        public double MaximumGradientNorm { get; set; } = 1.0;

        /// <summary>
        /// Seed of the shuffling, the dropout masks and the initial LoRA factors. Null (default) takes the seed of the MLContext; where that has none either,
        /// each trainer draws one and logs it.
        /// </summary>
        public int? Seed { get; set; }

        /// <inheritdoc cref="TrainingOptions.Shuffle"/>
        public bool Shuffle { get; set; } = true;

        /// <inheritdoc cref="TrainingOptions.GroupByLength"/>
        public bool GroupByLength { get; set; }

        /// <inheritdoc cref="TrainingOptions.PackingLength"/>
        public int PackingLength { get; set; }

        /// <inheritdoc cref="TrainingOptions.ActivationCheckpointing"/>
        public bool ActivationCheckpointing { get; set; }

        /// <inheritdoc cref="TrainingOptions.Precision"/>
        public TrainingPrecision Precision { get; set; } = TrainingPrecision.Float32;

        /// <inheritdoc cref="TrainingOptions.PrepackWeights"/>
        public bool PrepackWeights { get; set; }

        /// <inheritdoc cref="TrainingOptions.Threads"/>
        public int Threads { get; set; }

        /// <inheritdoc cref="TrainingOptions.EvaluationSteps"/>
        public int EvaluationSteps { get; set; }

        /// <summary>Most tokens of a training row, prompt and answer together; longer rows are cut off at the end, and reported. Default 512.</summary>
        public int MaximumSequenceLength { get; set; } = 512;

        /// <summary>Text column with what is asked. Default "Instruction"; may be absent where the data has a conversation or text column.</summary>
        public string InstructionColumnName { get; set; } = ColumnNames.DefaultInstruction;

        /// <summary>
        /// Text column with what it is asked about. Default "Input", used where the data has it; a name set by hand must be in the training data. Null: rows have none.
        /// </summary>
        public string? InputColumnName { get; set; } = ColumnNames.DefaultInput;

        /// <summary>Text column with the answer to learn, read in training only. Default "Output".</summary>
        public string OutputColumnName { get; set; } = ColumnNames.DefaultOutput;

        /// <summary>Text column with an instruction's own system message, in place of <see cref="SystemPrompt"/>. Default "System", used where the data has it. Null: rows have none.</summary>
        public string? SystemColumnName { get; set; } = ColumnNames.DefaultSystem;

        /// <summary>Text column with the turns before an instruction, as JSON: <c>[["question", "answer"], …]</c>. Default "History", used where the data has it. Null: rows have none.</summary>
        public string? HistoryColumnName { get; set; } = ColumnNames.DefaultHistory;

        /// <summary>
        /// Text column with whole conversations as JSON, in OpenAI's form <c>{"messages": [{"role": …, "content": …}, …], "tools": […]}</c>, or only the list of messages. Default "Conversation",
        /// used where the data has it. Null: no row is one. When asked, the assistant's messages at the end are left out.
        /// </summary>
        public string? ConversationColumnName { get; set; } = ColumnNames.DefaultConversation;

        /// <summary>
        /// Text column with documents, which are learned whole, for rows without instruction and conversation; read in training only. Default "Text", used where the data has it. Null: no row is one.
        /// </summary>
        public string? TextColumnName { get; set; } = ColumnNames.DefaultText;

        /// <summary>Text column that the transformer adds, with the generated answer. Default "Answer".</summary>
        public string AnswerColumnName { get; set; } = ColumnNames.DefaultAnswer;

        /// <summary>System message of every conversation without its own, in training and in answering; null (default) leaves it to the chat template, empty stands for none.</summary>
        public string? SystemPrompt { get; set; }

        /// <summary>
        /// What the user's message is made of, such as <c>根据公司内部知识回答：{instruction}</c>, in training and in answering; <c>{input}</c> stands for the input, which otherwise follows
        /// the instruction on a new line. Null (default) is the instruction itself. Conversations and documents are taken as they are. Saved with the adapter.
        /// </summary>
        public string? PromptTemplate { get; set; }

        /// <summary>
        /// enable_thinking of the checkpoint's chat template, where it reads one (Qwen3), in training and in answering: with false the prompt closes an empty thinking block and the answer alone is learned.
        /// Null (default) leaves it unsaid. A template that does not read it is an <see cref="OptionException"/> when training begins.
        /// </summary>
        public bool? EnableThinking { get; set; }

        /// <summary>Which tokens the loss counts. Default: the answer and its end-of-turn token.</summary>
        public LabelScope LabelScope { get; set; } = LabelScope.Answer;

        /// <summary>How the transformer generates; saved with the model. Greedy by default.</summary>
        public GenerationOptions Generation { get; set; } = new();

        /// <summary>How the transformer holds the base's weights while it generates; saved with the model; for training see <see cref="Precision"/>. Default: as the checkpoint has them.</summary>
        public WeightPrecision WeightPrecision { get; set; } = WeightPrecision.Checkpoint;

        /// <summary>Rows, with the same columns as the training data, whose loss is measured during training; null (default) for none.</summary>
        public IDataView? ValidationSet { get; set; }

        /// <summary>Called after every optimizer step, on the thread that trains; an exception thrown here ends the training.</summary>
        public Action<TrainingProgress>? ProgressCallback { get; set; }

        /// <summary>
        /// Ends the training early: <see cref="Fit"/> then returns the model as of the last whole step (its summary says that it was cancelled), and throws
        /// an <see cref="OperationCanceledException"/> only when no step was made yet.
        /// </summary>
        public CancellationToken CancellationToken { get; set; }

        /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
        public void Validate()
        {
            if (string.IsNullOrWhiteSpace(ModelPath))
            {
                throw new OptionException($"{nameof(ModelPath)} is empty; it must be the folder or the hub id of a Qwen checkpoint.");
            }

            Require(MaximumSequenceLength >= 2, nameof(MaximumSequenceLength), MaximumSequenceLength, "at least 2");
            Require(TargetModules is not null, nameof(TargetModules), "null", "one or more names, such as q_proj and v_proj");
            Require(RankPattern is not null, nameof(RankPattern), "null", "given; empty stands for no other ranks");
            Require(AlphaPattern is not null, nameof(AlphaPattern), "null", "given; empty stands for no other alphas");
            Require(Enum.IsDefined(LabelScope), nameof(LabelScope), LabelScope, string.Join(" or ", Enum.GetNames<LabelScope>()));
            Require(Enum.IsDefined(WeightPrecision), nameof(WeightPrecision), WeightPrecision, string.Join(" or ", Enum.GetNames<WeightPrecision>()));
            Require(Generation is not null, nameof(Generation), "null", "given");
            if (PromptTemplate?.Contains("{instruction}", StringComparison.Ordinal) == false)
            {
                throw new OptionException($"{nameof(PromptTemplate)} is \"{PromptTemplate}\"; it must contain {{instruction}}, or every row would ask the same.");
            }

            Columns.Validate();
            ToLoraOptions().Validate();
            ToTrainingOptions(seed: 0).Validate();
            Generation!.Validate();
        }

        internal ColumnNames Columns => new ColumnNames(InstructionColumnName, OrNull(InputColumnName), OutputColumnName, AnswerColumnName,
            OrNull(SystemColumnName), OrNull(HistoryColumnName), OrNull(ConversationColumnName), OrNull(TextColumnName)).WithoutTakenDefaults();

        internal PromptOptions Prompt => new(SystemPrompt, PromptTemplate, LabelScope, MaximumSequenceLength, EnableThinking);

        internal LoraOptions ToLoraOptions() => new()
        {
            Rank = Rank,
            Alpha = AsWritten(Alpha),
            Dropout = AsWritten(Dropout),
            TargetModules = TargetModules,
            UseRsLora = UseRsLora,
            LayersToTransform = LayersToTransform,
            RankPattern = RankPattern,
            AlphaPattern = AlphaPattern,
        };

        internal TrainingOptions ToTrainingOptions(int seed) => new()
        {
            BatchSize = BatchSize,
            GradientAccumulationSteps = GradientAccumulationSteps,
            LearningRate = LearningRate,
            NumberOfEpochs = NumberOfEpochs,
            MaximumSteps = MaximumSteps,
            Schedule = Schedule,
            WarmupSteps = WarmupSteps,
            WarmupRatio = WarmupRatio,
            WeightDecay = WeightDecay,
            AdamBeta1 = AdamBeta1,
            AdamBeta2 = AdamBeta2,
            AdamEpsilon = AdamEpsilon,
            MaximumGradientNorm = MaximumGradientNorm,
            Seed = seed,
            Shuffle = Shuffle,
            GroupByLength = GroupByLength,
            PackingLength = PackingLength,
            ActivationCheckpointing = ActivationCheckpointing,
            Precision = Precision,
            PrepackWeights = PrepackWeights,
            Threads = Threads,
            EvaluationSteps = EvaluationSteps,
        };

        /// <summary>A copy that later changes of the caller's object do not reach.</summary>
        internal Options Snapshot()
        {
            Options copy = (Options)MemberwiseClone();
            copy.LayersToTransform = LayersToTransform is null ? null : [.. LayersToTransform];
            copy.RankPattern = new Dictionary<string, int>(RankPattern);
            copy.AlphaPattern = new Dictionary<string, double>(AlphaPattern);
            copy.Generation = JsonSerializer.Deserialize<GenerationOptions>(JsonSerializer.SerializeToUtf8Bytes(Generation))!;
            return copy;
        }

        private static string? OrNull(string? name) => string.IsNullOrEmpty(name) ? null : name;

        // 0.05f, as many write it, becomes 0.05000000074505806 as a double; adapter_config.json should say 0.05. A decimal keeps seven digits of a float: where that is
        // another number, as for 1234567.5, and where it does not fit into a decimal, the value stays what it is.
        private static double AsWritten(double value)
        {
            if ((float)value != value || !(Math.Abs(value) < 1e28))
            {
                return value;
            }

            double written = (double)(decimal)(float)value;
            return (float)written == value ? written : value;
        }

        private static void Require(bool holds, string option, object value, string allowed)
        {
            if (!holds)
            {
                throw new OptionException(FormattableString.Invariant($"{option} is {value}; it must be {allowed}."));
            }
        }
    }
}
