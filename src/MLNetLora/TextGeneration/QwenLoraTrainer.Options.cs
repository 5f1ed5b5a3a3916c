using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

public sealed partial class QwenLoraTrainer
{
    /// <summary>Everything that can be said about a fine-tuning run. Only <see cref="ModelPath"/> has no default.</summary>
    /// <remarks>How it is trained is inherited from <see cref="TrainingOptions"/>; the shape of the adapter is that of <see cref="LoraOptions"/>.</remarks>
    public sealed class Options : TrainingOptions
    {
        // Named, because the short overload of the trainer has it as a default argument.
        internal const int DefaultMaximumSequenceLength = 512;

        private WeightPrecision? _weightPrecision; // null: nobody has set it

        /// <summary>
        /// The base checkpoint: a Hugging Face folder with config.json, tokenizer files and .safetensors weights of a Qwen model, or a hub id such as
        /// Qwen/Qwen2.5-0.5B-Instruct, with @REVISION behind it where not the main branch is meant. An id is looked up in the Hugging Face cache of this
        /// machine (see <see cref="Checkpoints.ModelFolder"/>), and downloaded into it where it is not there, unless <see cref="DownloadModel"/> is false.
        /// </summary>
        public string ModelPath { get; set; } = "";

        /// <summary>
        /// Whether a <see cref="ModelPath"/> that is a hub id is downloaded where the Hugging Face cache does not hold it; from where, with which token and
        /// into which folder the environment says (see <see cref="Checkpoints.HubDownloadOptions"/>), also that nothing may be (HF_HUB_OFFLINE=1). What is
        /// done is told in the log. Default true; the opposite of transformers' local_files_only.
        /// </summary>
        public bool DownloadModel { get; set; } = true;

        /// <summary>What is trained. Default <see cref="FineTuningMethod.Lora"/>, an adapter. <see cref="FineTuningMethod.Full"/> needs an
        /// <see cref="OutputFolder"/>, and the options of the adapter at their defaults. LLaMA-Factory's name: finetuning_type.</summary>
        public FineTuningMethod Method { get; set; }

        /// <summary>
        /// Folder of the run, which one run at a time has. Made if it is not there; one that holds an earlier run is refused but for
        /// <see cref="ResumeFrom"/>. With <see cref="FineTuningMethod.Lora"/> it receives checkpoints (checkpoint-STEP, see
        /// <see cref="TrainingOptions.SaveSteps"/>), at the end the adapter as PEFT has it, and trainer_state.json; null (default): nothing is written. With
        /// <see cref="FineTuningMethod.Full"/> it is needed, and receives the trained checkpoint: weights, configuration, tokenizer and template, from which
        /// the transformer answers; and checkpoint-STEP where <see cref="TrainingOptions.SaveSteps"/> or <see cref="TrainingOptions.SaveEveryEpoch"/> is given,
        /// each of them some 14 bytes per parameter. The peers' name: output_dir.
        /// </summary>
        public string? OutputFolder { get; set; }

        /// <summary>
        /// What the run goes on from: a checkpoint-STEP that a run of this library wrote, or the folder of a run, whose newest whole checkpoint is taken; where
        /// that is <see cref="OutputFolder"/> and holds none yet, the run begins anew, so that whoever starts it again and again need not know. Another folder
        /// that holds no checkpoint stands for the one run in it, such as the model folder of a full training by the command line. With the same
        /// data, options, base and <see cref="TrainingOptions.Threads"/> on the same machine the result is that of a run that was never stopped, to the last
        /// bit; what differs is refused and named. Null (default): a new run. The peers' name: resume_from_checkpoint.
        /// </summary>
        public string? ResumeFrom { get; set; }

        /// <summary>Whether a run goes on with other options or rows than it began with, say with more epochs: what differs is then said in a warning. The
        /// base, the shape of the adapter and the optimizer stay. Default false: it is refused.</summary>
        public bool ResumeWithChanges { get; set; }

        /// <summary>
        /// Folder of a PEFT adapter for this base (adapter_config.json and adapter_model.safetensors) to train on from, with new moments and a new schedule.
        /// Its shape is then that of the file: of the options of the adapter only <see cref="Dropout"/> counts, which is this run's; a <see cref="Rank"/>,
        /// <see cref="Alpha"/>, <see cref="UseRsLora"/>, <see cref="UseDora"/> or <see cref="Bias"/> that is neither the default nor the file's is refused.
        /// <see cref="SystemPrompt"/>, <see cref="PromptTemplate"/> and <see cref="EnableThinking"/> that are null are those that it was trained with.
        /// Null (default) starts a fresh one. LLaMA-Factory's name: adapter_name_or_path; PEFT's: PeftModel.from_pretrained with is_trainable.
        /// </summary>
        public string? InitialAdapter { get; set; }

        /// <inheritdoc cref="LoraOptions.Rank"/>
        public int Rank
        {
            get => Lora.Rank;
            set => Lora.Rank = value;
        }

        /// <inheritdoc cref="LoraOptions.Alpha"/>
        public double Alpha
        {
            get => Lora.Alpha;
            set => Lora.Alpha = AsWritten(value);
        }

        /// <inheritdoc cref="LoraOptions.Dropout"/>
        public double Dropout
        {
            get => Lora.Dropout;
            set => Lora.Dropout = AsWritten(value);
        }

        /// <inheritdoc cref="LoraOptions.TargetModules"/>
        public TargetModules TargetModules
        {
            get => Lora.TargetModules;
            set => Lora.TargetModules = value;
        }

        /// <inheritdoc cref="LoraOptions.TargetParameters"/>
        public IReadOnlyList<string> TargetParameters
        {
            get => Lora.TargetParameters;
            set => Lora.TargetParameters = value;
        }

        /// <inheritdoc cref="LoraOptions.UseRsLora"/>
        public bool UseRsLora
        {
            get => Lora.UseRsLora;
            set => Lora.UseRsLora = value;
        }

        /// <inheritdoc cref="LoraOptions.UseDora"/>
        public bool UseDora
        {
            get => Lora.UseDora;
            set => Lora.UseDora = value;
        }

        /// <inheritdoc cref="LoraOptions.Initialization"/>
        public LoraInitialization Initialization
        {
            get => Lora.Initialization;
            set => Lora.Initialization = value;
        }

        /// <inheritdoc cref="LoraOptions.ExcludeModules"/>
        public TargetModules? ExcludeModules
        {
            get => Lora.ExcludeModules;
            set => Lora.ExcludeModules = value;
        }

        /// <inheritdoc cref="LoraOptions.LayersPattern"/>
        public IReadOnlyList<string> LayersPattern
        {
            get => Lora.LayersPattern;
            set => Lora.LayersPattern = value;
        }

        /// <inheritdoc cref="LoraOptions.Bias"/>
        public LoraBias Bias
        {
            get => Lora.Bias;
            set => Lora.Bias = value;
        }

        /// <inheritdoc cref="LoraOptions.ModulesToSave"/>
        public IReadOnlyList<string> ModulesToSave
        {
            get => Lora.ModulesToSave;
            set => Lora.ModulesToSave = value;
        }

        /// <inheritdoc cref="LoraOptions.TrainableTokenIndices"/>
        public IReadOnlyList<int> TrainableTokenIndices
        {
            get => Lora.TrainableTokenIndices;
            set => Lora.TrainableTokenIndices = value;
        }

        /// <inheritdoc cref="LoraOptions.LayersToTransform"/>
        public IReadOnlyList<int>? LayersToTransform
        {
            get => Lora.LayersToTransform;
            set => Lora.LayersToTransform = value;
        }

        /// <inheritdoc cref="LoraOptions.RankPattern"/>
        public IReadOnlyDictionary<string, int> RankPattern
        {
            get => Lora.RankPattern;
            set => Lora.RankPattern = value;
        }

        /// <inheritdoc cref="LoraOptions.AlphaPattern"/>
        public IReadOnlyDictionary<string, double> AlphaPattern
        {
            get => Lora.AlphaPattern;
            set => Lora.AlphaPattern = value;
        }

        /// <summary>Most tokens of a training row, prompt and answer together; longer rows are cut off at the end, and reported. Default 512.</summary>
        public int MaximumSequenceLength { get; set; } = DefaultMaximumSequenceLength;

        /// <summary>Text column with what is asked. Default "Instruction"; may be absent where the data has a conversation or text column.</summary>
        public string InstructionColumnName { get; set; } = ColumnNames.DefaultInstruction;

        /// <summary>
        /// Text column with what it is asked about. Default "Input", used where the data has it; a name set by hand must be in the training data.
        /// Null: rows have none.
        /// </summary>
        public string? InputColumnName { get; set; } = ColumnNames.DefaultInput;

        /// <summary>Text column with the answer to learn, read in training only. Default "Output".</summary>
        public string OutputColumnName { get; set; } = ColumnNames.DefaultOutput;

        /// <summary>Text column with an instruction's own system message, in place of <see cref="SystemPrompt"/>. Default "System", used where the
        /// data has it. Null: rows have none.</summary>
        public string? SystemColumnName { get; set; } = ColumnNames.DefaultSystem;

        /// <summary>Text column with the turns before an instruction, as JSON: <c>[["question", "answer"], …]</c>. Default "History", used where the
        /// data has it. Null: rows have none.</summary>
        public string? HistoryColumnName { get; set; } = ColumnNames.DefaultHistory;

        /// <summary>
        /// Text column with whole conversations as JSON, in OpenAI's form <c>{"messages": [{"role": …, "content": …}, …], "tools": […]}</c>, or only
        /// the list of messages. Default "Conversation", used where the data has it. Null: no row is one. When asked, the assistant's messages at the
        /// end are left out.
        /// </summary>
        public string? ConversationColumnName { get; set; } = ColumnNames.DefaultConversation;

        /// <summary>
        /// Text column with documents, which are learned whole, for rows without instruction and conversation; read in training only. Default "Text",
        /// used where the data has it. Null: no row is one.
        /// </summary>
        public string? TextColumnName { get; set; } = ColumnNames.DefaultText;

        /// <summary>Text column that the transformer adds, with the generated answer. Default "Answer".</summary>
        public string AnswerColumnName { get; set; } = ColumnNames.DefaultAnswer;

        /// <summary>Text column that the transformer adds, with what the model thought before it answered; empty where it did not think. Null
        /// (default): no such column.</summary>
        public string? ThinkingColumnName { get; set; }

        /// <summary>
        /// Text column that the transformer adds, with why an answer ended: "stop" where the model ended it, "length" where the limit did, "error"
        /// where there is none.
        /// Null (default): no such column.
        /// </summary>
        public string? FinishReasonColumnName { get; set; }

        /// <summary>Int32 column that the transformer adds, with the tokens of a row's prompt. Null (default): no such column.</summary>
        public string? PromptTokensColumnName { get; set; }

        /// <summary>Int32 column that the transformer adds, with the tokens that were generated, an ending eos included. Null (default): no such
        /// column.</summary>
        public string? NewTokensColumnName { get; set; }

        /// <summary>
        /// Text column that the transformer adds, with why a row has no answer (its prompt is too long, or the chat template refuses it); empty where
        /// all is well.
        /// Null (default): no such column; a view then warns in the log, a prediction engine throws.
        /// </summary>
        public string? ErrorColumnName { get; set; }

        /// <summary>System message of every conversation without its own, in training and in answering; null (default) leaves it to the chat
        /// template, empty stands for none.</summary>
        public string? SystemPrompt { get; set; }

        /// <summary>
        /// What the user's message is made of, such as <c>根据公司内部知识回答：{instruction}</c>, in training and in answering; <c>{input}</c> stands for the
        /// input, which otherwise follows the instruction on a new line. Null (default) is the instruction itself. Conversations and documents are
        /// taken as they are. Saved with the adapter.
        /// </summary>
        public string? PromptTemplate { get; set; }

        /// <summary>
        /// enable_thinking of the checkpoint's chat template, where it reads one (Qwen3), in training and in answering: with false the prompt closes
        /// an empty thinking block and the answer alone is learned.
        /// Null (default) is false where no answer of the data thinks (reasoning_content, or &lt;think&gt;…&lt;/think&gt; before the answer), else
        /// true; rows that think are learned with their thinking.
        /// A template that does not read it is an <see cref="OptionException"/> when training begins.
        /// </summary>
        public bool? EnableThinking { get; set; }

        /// <summary>Which tokens the loss counts. Default: the answer and its end-of-turn token.</summary>
        public LabelScope LabelScope { get; set; } = LabelScope.Answer;

        /// <summary>How the transformer generates; saved with the model. Greedy by default.</summary>
        public GenerationOptions Generation { get; set; } = new();

        /// <summary>How the transformer holds the base's weights while it generates; saved with the model; for training see
        /// <see cref="TrainingOptions.Precision"/>. Default: as the checkpoint has them; after a training on 4 bits those, so that what was trained is what
        /// answers. What is set counts, <see cref="WeightPrecision.Checkpoint"/> after a training on 4 bits too.</summary>
        public WeightPrecision WeightPrecision
        {
            get => _weightPrecision ?? (Precision == WeightPrecision.Int8 ? WeightPrecision.Checkpoint : Precision);
            set => _weightPrecision = value;
        }

        /// <summary>Rows, with the same columns as the training data, whose loss is measured during training; null (default) for none.</summary>
        public IDataView? ValidationSet { get; set; }

        /// <summary>Called after every optimizer step, on the thread that trains; an exception thrown here ends the training.</summary>
        public Action<TrainingProgress>? ProgressCallback { get; set; }

        /// <summary>
        /// What follows the run from its beginning to its end: <see cref="ProgressLine"/>, <see cref="JsonLinesLog"/>, <see cref="TensorBoardLog"/>,
        /// a program's own. Called in this order, on the thread that trains, after <see cref="ProgressCallback"/>; an exception ends the training, see
        /// <see cref="TrainingCallback"/>. Default none. The peers' name: callbacks.
        /// </summary>
        public IReadOnlyList<TrainingCallback> Callbacks { get; set; } = [];

        /// <summary>
        /// Ends the training early: <see cref="Fit"/> then returns the model as of the last whole step (its summary says that it was cancelled), and throws
        /// an <see cref="OperationCanceledException"/> only when no step was made yet.
        /// </summary>
        public CancellationToken CancellationToken { get; set; }

        /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
        public override void Validate()
        {
            if (string.IsNullOrWhiteSpace(ModelPath))
            {
                throw new OptionException($"{nameof(ModelPath)} is empty; it must be the folder or the hub id of a Qwen checkpoint.");
            }

            Require.Defined(Method, nameof(Method));
            bool isFull = Method == FineTuningMethod.Full;
            Require.That(isFull ? !string.IsNullOrWhiteSpace(OutputFolder) : OutputFolder is null || !string.IsNullOrWhiteSpace(OutputFolder),
                nameof(OutputFolder), OutputFolder ?? "null", isFull ? $"a folder when {nameof(Method)} is {Method}" : "a folder, or null");
            Require.That(ResumeFrom is null || !string.IsNullOrWhiteSpace(ResumeFrom), nameof(ResumeFrom), "empty",
                "the folder of a run or of a checkpoint, or null");
            Require.That(!ResumeWithChanges || ResumeFrom is not null, nameof(ResumeWithChanges), ResumeWithChanges,
                $"false when {nameof(ResumeFrom)} is null");
            Require.That(SaveSteps is null or 0 || OutputFolder is not null, nameof(SaveSteps), SaveSteps, $"null or 0 when {nameof(OutputFolder)} is null");
            Require.That(!SaveEveryEpoch || OutputFolder is not null, nameof(SaveEveryEpoch), SaveEveryEpoch, $"false when {nameof(OutputFolder)} is null");
            Require.That(SaveTotalLimit is null || OutputFolder is not null, nameof(SaveTotalLimit), SaveTotalLimit,
                $"null when {nameof(OutputFolder)} is null");
            Require.That(EarlyStoppingPatience is null || ValidationSet is not null, nameof(EarlyStoppingPatience), EarlyStoppingPatience,
                $"null when {nameof(ValidationSet)} is null");
            Require.That(!LoadBestModelAtEnd || (ValidationSet is not null && OutputFolder is not null), nameof(LoadBestModelAtEnd), LoadBestModelAtEnd,
                $"false when {nameof(ValidationSet)} or {nameof(OutputFolder)} is null");
            Require.That(!isFull || InitialAdapter is null, nameof(InitialAdapter), InitialAdapter, $"null when {nameof(Method)} is {Method}");
            Require.That(!isFull || Precision == WeightPrecision.Checkpoint, nameof(Precision), Precision,
                $"{WeightPrecision.Checkpoint} when {nameof(Method)} is {Method}, since no weight is frozen");
            Require.That(!isFull || !PrepackWeights, nameof(PrepackWeights), PrepackWeights,
                $"false when {nameof(Method)} is {Method}, since no weight is frozen");
            Require.That(!isFull || LoraPlusRatio is null, nameof(LoraPlusRatio), LoraPlusRatio,
                $"null when {nameof(Method)} is {Method}, since there are no factors");
            Require.That(InitialAdapter is null || !string.IsNullOrWhiteSpace(InitialAdapter), nameof(InitialAdapter), "empty", "a folder, or null");
            Require.That(MaximumSequenceLength >= 2, nameof(MaximumSequenceLength), MaximumSequenceLength, "at least 2");
            Require.Defined(LabelScope, nameof(LabelScope));
            Require.Defined(_weightPrecision ?? WeightPrecision.Checkpoint, nameof(WeightPrecision)); // Precision is looked at as itself
            Require.That(Generation is not null, nameof(Generation), null, "given");
            Require.That(Callbacks is not null && !Callbacks.Contains(null!), nameof(Callbacks), Callbacks is null ? null : "a list with null in it",
                "callbacks; an empty list stands for none");
            Text.PromptTemplate.Validate(PromptTemplate);
            Columns.Validate();
            Lora.Validate();
            if (isFull && Lora.Changed().FirstOrDefault() is { } unused)
            {
                throw new OptionException($"{unused} is set, and {nameof(Method)} is {Method}, which has no adapter: it would count for nothing. Take it out.");
            }

            Require.That(InitialAdapter is null || Initialization == LoraInitialization.Default, nameof(Initialization), Initialization,
                $"{LoraInitialization.Default} when {nameof(InitialAdapter)} is set, since the factors are the file's");
            base.Validate();
            Generation!.Validate();
        }

        internal ColumnNames Columns => new ColumnNames(
            InstructionColumnName,
            InputColumnName,
            OutputColumnName,
            AnswerColumnName,
            SystemColumnName,
            HistoryColumnName,
            ConversationColumnName,
            TextColumnName,
            new AnswerDetails(
                ThinkingColumnName,
                FinishReasonColumnName,
                PromptTokensColumnName,
                NewTokensColumnName,
                ErrorColumnName)).Normalized();

        /// <summary>Whether checkpoints are written: with every weight only where somebody asks for it, since each takes some 14 bytes per parameter.</summary>
        internal bool WritesCheckpoints =>
            OutputFolder is not null && (Method != FineTuningMethod.Full || SaveSteps is not null || SaveEveryEpoch || LoadBestModelAtEnd);

        internal PromptOptions Prompt => new(SystemPrompt, PromptTemplate, LabelScope, MaximumSequenceLength, EnableThinking);

        /// <summary>The object behind the flat options of the adapter.</summary>
        internal LoraOptions Lora { get; private set; } = new();

        internal override Options Copy()
        {
            Options copy = (Options)base.Copy();
            copy.Lora = Lora.Copy();
            copy.Generation = Generation.Copy();
            copy.Callbacks = [.. Callbacks];
            return copy;
        }

        // 0.05f, as many write it, becomes 0.05000000074505806 as a double; adapter_config.json should say 0.05. A decimal keeps seven digits of a
        // float: where that is another number, as for 1234567.5, and where it does not fit into a decimal, the value stays what it is.
        private static double AsWritten(double value)
        {
            if ((float)value != value || !(Math.Abs(value) < 1e28))
            {
                return value;
            }

            double written = (double)(decimal)(float)value;
            return (float)written == value ? written : value;
        }
    }
}
