using System.Reflection;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;
using static MLNetLora.Cli.Configuration.CommandKinds;
using static MLNetLora.Cli.Configuration.SettingGroup;
using Options = MLNetLora.TextGeneration.QwenLoraTrainer.Options;

namespace MLNetLora.Cli.Configuration;

/// <summary>All settings: a row here is a key of configuration files, an option of the command line, a line of help and a line of docs/cli.md. A new option of
/// the library is one row.</summary>
internal static class SettingsTable
{
    /// <summary>The rows, in the order in which they are shown.</summary>
    public static IReadOnlyList<Setting> All { get; } =
    [
        Option(Model, nameof(Options.ModelPath), "Base checkpoint: a folder, or a hub id, OWNER/NAME or OWNER/NAME@REVISION", "model_name_or_path",
            "base_model_name_or_path") with { On = CommandKinds.All, ShortNames = ["--model", "-m"], Example = "Qwen/Qwen2.5-0.5B-Instruct" },
        Own(Model, nameof(RunSettings.ModelRevision), "Revision of a hub id: a branch, a tag or a commit; default: main") with
        {
            On = CommandKinds.All, Example = "v1.0",
        },
        Option(Model, nameof(Options.DownloadModel), "Downloads a hub id that the local cache does not hold") with { On = CommandKinds.All },
        Option(Model, nameof(Options.Method), "What is trained: an adapter, or every weight", "finetuning_type"),
        Option(Model, nameof(Options.InitialAdapter), "PEFT adapter to train on from", "adapter_name_or_path"),
        Own(Model, nameof(RunSettings.Adapter), "Adapter folder (PEFT) to answer with; default: that in the output folder, where there is one",
            "adapter_name_or_path")
            with { On = Answering, ShortNames = ["-a"] },
        Option(Model, nameof(Options.Precision), "How the frozen weights are held while training: 4 bits are QLoRA") with
        {
            Read = Precisions(WeightPrecision.Checkpoint, WeightPrecision.Int8, WeightPrecision.Nf4, WeightPrecision.Nf4Double, WeightPrecision.Fp4,
                WeightPrecision.Fp4Double),
            Expects = "checkpoint, int8, nf4, nf4_double, fp4 or fp4_double",
        },
        Option(Model, nameof(Options.WeightPrecision), "How the weights are held while answering; default: as in training") with { On = Train | Answering },

        Own(Rows, nameof(RunSettings.Data), "Rows: files, patterns such as data/**/*.jsonl.gz, or names in dataset_info.json", "dataset", "train_file") with
        {
            On = Learning | Evaluate, ShortNames = ["-d"], Read = Values.Files, Example = "company_data.json",
        },
        Own(Rows, nameof(RunSettings.DataFormat), "How the rows are written; default: the first row shows it") with { On = Learning | Evaluate | Generate },
        Own(Rows, nameof(RunSettings.DatasetFolder), "Folder of LLaMA-Factory's dataset_info.json, which names files", "dataset_dir") with
        {
            On = Learning | Evaluate,
        },
        Own(Rows, nameof(RunSettings.MaximumRows), "Reads only the first rows", "max_samples") with
        {
            On = Learning | Evaluate, Read = given => (int)Values.Whole(given, least: 1),
        },
        Own(Rows, nameof(RunSettings.Validation), "Rows whose loss is measured during training", "eval_dataset", "validation_file")
            with { On = Train, Read = Values.Files, LibraryNames = [nameof(Options.ValidationSet)] },
        Own(Rows, nameof(RunSettings.ValidationSize), "Keeps some of the rows for validation: a share below 1, or how many") with
        {
            On = Train, Aliases = ["val_size"], ShortNames = ["--val-size"], Read = Between(0, int.MaxValue), Expects = "0 or more", Example = "0.1",
        },
        Option(Rows, nameof(Options.EvaluationSteps), "Steps between two measurements of the validation loss; 0: once an epoch") with { On = Train },
        Option(Rows, nameof(Options.MaximumSequenceLength), "Most tokens of a row; longer ones are cut off", "max_length", "cutoff_len", "max_seq_length",
            "model_max_length") with { ShortNames = ["--max-length"] },
        Option(Rows, nameof(Options.LabelScope), "Which tokens are learned"),
        Option(Rows, nameof(Options.WarningsAsErrors), "Stops before the first step where something of the data would be lost"),

        Own(Results, nameof(RunSettings.Output), "Folder for what the training leaves", "output_dir") with
        {
            On = Train | Answering, ShortNames = ["-o"], LibraryNames = [nameof(Options.OutputFolder)],
        },
        Own(Results, nameof(RunSettings.Overwrite), "Replaces the results that the folder has", "overwrite_output_dir") with { On = Train },
        Own(Results, nameof(RunSettings.Resume), "Goes on with the run in the output folder; where there is none yet, begins it") with
        {
            On = Train, LibraryNames = [nameof(Options.ResumeFrom)],
        },
        Option(Results, nameof(Options.ResumeFrom), "Goes on from a checkpoint, or with the run in another folder",
            new Alias("resume_from_checkpoint", PeersValues.ResumeFrom)) with { On = Train, Example = "out/company/checkpoint-50" },
        Option(Results, nameof(Options.ResumeWithChanges), "Goes on although settings or rows are others than those that the run began with")
            with { On = Train },
        Option(Results, nameof(Options.SaveSteps), "Steps between two checkpoints; 0: none; default: once an epoch, with method full none") with { On = Train },
        Option(Results, nameof(Options.SaveEveryEpoch), "A checkpoint at the end of each epoch, too, with method full as well") with { On = Train },
        Option(Results, nameof(Options.SaveTotalLimit), "How many checkpoints are kept, the best among them; default: all") with { On = Train },
        Option(Results, nameof(Options.EarlyStoppingPatience), "Ends after so many measurements of the validation loss that were no better; default: never",
            "early_stopping_steps") with { On = Train },
        Option(Results, nameof(Options.EarlyStoppingThreshold), "By how much a validation loss must be lower to be better") with { On = Train },
        Option(Results, nameof(Options.LoadBestModelAtEnd), "The result is that of the step with the lowest validation loss") with { On = Train },
        Own(Results, nameof(RunSettings.Merge), "Writes base and adapter merged as a checkpoint, too") with { On = Train },
        Own(Results, nameof(RunSettings.Zip), "Writes model.zip, which ML.NET loads") with { On = Train },
        Own(Results, nameof(RunSettings.LoggingSteps), "Steps between two lines of progress where there is no terminal; 0: ten in all") with
        {
            On = Train, Read = given => (int)Values.Whole(given),
        },
        Own(Results, nameof(RunSettings.SampleAnswers), "Rows that are answered as before and as after the training, for run.html; 0: none") with
        {
            On = Train, Read = given => (int)Values.Whole(given),
        },

        Option(Lora, nameof(Options.Rank), "Rank of the factors", "r", "lora_rank", "lora_r"),
        Option(Lora, nameof(Options.Alpha), "The adapter counts alpha / rank", "lora_alpha"),
        Option(Lora, nameof(Options.Dropout), "Share of the adapter's inputs that is dropped in training", "lora_dropout"),
        Option(Lora, nameof(Options.TargetModules), "Layers that get an adapter", "lora_target", "lora_target_modules") with { Example = "q_proj v_proj" },
        Option(Lora, nameof(Options.TargetParameters), "Bare parameters that get one, such as experts.down_proj", "lora_target_parameters"),
        Option(Lora, nameof(Options.ExcludeModules), "Layers that get none"),
        Option(Lora, nameof(Options.LayersToTransform), "Numbers of the blocks that get one; default: all"),
        Option(Lora, nameof(Options.LayersPattern), "What stands before a block's number in names") with { Read = Values.WholeTexts },
        Option(Lora, nameof(Options.RankPattern), "Other ranks for some layers") with { Example = "{down_proj: 16}" },
        Option(Lora, nameof(Options.AlphaPattern), "Other alphas for some layers"),
        Option(Lora, nameof(Options.UseRsLora), "Scales with alpha / √rank"),
        Option(Lora, nameof(Options.UseDora), "DoRA: a trained magnitude for each output"),
        Option(Lora, nameof(Options.Initialization), "What the factors are at the start", new Alias("init_lora_weights", PeersValues.InitLoraWeights),
            new Alias("pissa_init", given => Values.Flag(given) ? LoraInitialization.Pissa : Setting.Unsaid)),
        Option(Lora, nameof(Options.Bias), "Which biases are trained too"),
        Option(Lora, nameof(Options.ModulesToSave), "Modules that are trained whole", "additional_target", "lora_modules_to_save"),
        Option(Lora, nameof(Options.TrainableTokenIndices), "Ids of tokens whose embeddings are trained"),

        Option(Steps, nameof(Options.NumberOfEpochs), "Passes over the rows", "num_train_epochs") with { ShortNames = ["--epochs"] },
        Option(Steps, nameof(Options.MaximumSteps), "Stops after so many steps; default: all epochs", new Alias("max_steps", PeersValues.MaximumSteps)) with
        {
            ShortNames = ["--max-steps"],
        },
        Option(Steps, nameof(Options.BatchSize), "Rows at once", "per_device_train_batch_size", "train_batch_size"),
        Option(Steps, nameof(Options.GradientAccumulationSteps), "Batches of a step"),
        Option(Steps, nameof(Options.LearningRate), "Learning rate at its peak") with { ShortNames = ["--lr"] },
        Option(Steps, nameof(Options.Schedule), "How the learning rate moves", new Alias("lr_scheduler_type", PeersValues.Schedule)),
        Option(Steps, nameof(Options.WarmupSteps), "Steps during which it rises"),
        Option(Steps, nameof(Options.WarmupRatio), "The same as a share of all steps"),
        Option(Steps, nameof(Options.Seed), "Seed of all that is random; default: drawn and shown") with { On = Learning | Evaluate },
        Option(Steps, nameof(Options.Shuffle), "Shuffles the rows for each epoch", new Alias("disable_shuffling", given => !Values.Flag(given)),
            new Alias("train_sampling_strategy", PeersValues.SamplingStrategy)),
        Option(Steps, nameof(Options.GroupByLength), "Rows of like length go together"),
        Own(Steps, nameof(RunSettings.Packing), "Packs rows into sequences of the maximum length", "neat_packing"),
        Option(Steps, nameof(Options.PackingLength), "Packs rows into sequences of another length"),

        Option(Optimization, nameof(Options.Optimizer), "What makes the steps", new Alias("optim")) with
        {
            Read = PeersValues.Optimizer, Expects = "adamw, adamw_8bit, sgd or lion, or transformers' names of them, such as paged_adamw_8bit",
        },
        Option(Optimization, nameof(Options.LoraPlusRatio), "LoRA+: the factors B learn so many times faster", "loraplus_lr_ratio"),
        Option(Optimization, nameof(Options.WeightDecay), "Decoupled weight decay"),
        Option(Optimization, nameof(Options.MaximumGradientNorm), "Longest gradient; 0: no clipping", "max_grad_norm"),
        Option(Optimization, nameof(Options.AdamBeta1), "AdamW's decay of the first moment"),
        Option(Optimization, nameof(Options.AdamBeta2), "AdamW's decay of the second moment"),
        Option(Optimization, nameof(Options.AdamEpsilon), "AdamW's epsilon"),
        Option(Optimization, nameof(Options.LionBeta1), "Lion's share of the momentum in a step"),
        Option(Optimization, nameof(Options.LionBeta2), "Lion's decay of the momentum"),

        Option(Hardware, nameof(Options.Device), "Where it computes", new Alias("use_cpu", PeersValues.Cpu), new Alias("no_cuda", PeersValues.Cpu)) with
        {
            On = Train | Answering, Expects = "cpu, cuda or cuda:N",
        },
        Option(Hardware, nameof(Options.Threads), "Threads; 0: all cores") with { On = CommandKinds.All },
        Option(Hardware, nameof(Options.ComputeType), "Type that training computes in; default: bfloat16 on a GPU that has it, else float32"),
        Own(Hardware, nameof(RunSettings.Tf32), "Products of 32-bit floats in TF32, on a GPU") with
        {
            On = Train | Answering, LibraryNames = [OfCuda(nameof(CudaDevice.Tf32))],
        },
        Own(Hardware, nameof(RunSettings.FusedKernels), "This library's own kernels in the place of chains of the runtime's, on a GPU")
            with { On = Train | Answering, LibraryNames = [OfCuda(nameof(CudaDevice.FusedKernels))] },
        Own(Hardware, nameof(RunSettings.CudaGraphs), "Training captures its kernels as CUDA graphs, on a GPU") with
        {
            On = Train, LibraryNames = [OfCuda(nameof(CudaDevice.Graphs))],
        },
        Option(Hardware, nameof(Options.ActivationCheckpointing), "Computes activations again: less memory, a third slower", "gradient_checkpointing",
            new Alias("disable_gradient_checkpointing", given => !Values.Flag(given))),
        Option(Hardware, nameof(Options.PrepackWeights), "Keeps copies of the weights in the processor's order: faster steps, more memory"),

        Option(Prompts, nameof(Options.SystemPrompt), "System message of rows without their own", "default_system", "system_message", "system") with
        {
            On = CommandKinds.All,
        },
        Option(Prompts, nameof(Options.PromptTemplate), "What the user's message is made of")
            with { On = CommandKinds.All, Example = "Answer briefly: {instruction}" },
        Option(Prompts, nameof(Options.EnableThinking), "Whether the model may think first, where its template asks; default: as the data does") with
        {
            On = CommandKinds.All,
        },

        Option(MlColumns, nameof(Options.InstructionColumnName), "Column of the questions") with { On = Train },
        Option(MlColumns, nameof(Options.InputColumnName), "Column of what they are about") with { On = Train },
        Option(MlColumns, nameof(Options.OutputColumnName), "Column of the answers") with { On = Train },
        Option(MlColumns, nameof(Options.SystemColumnName), "Column of the system messages") with { On = Train },
        Option(MlColumns, nameof(Options.HistoryColumnName), "Column of earlier turns") with { On = Train },
        Option(MlColumns, nameof(Options.ConversationColumnName), "Column of conversations") with { On = Train },
        Option(MlColumns, nameof(Options.TextColumnName), "Column of documents") with { On = Train },
        Option(MlColumns, nameof(Options.AnswerColumnName), "Column that model.zip adds: the answer") with { On = Train },
        Option(MlColumns, nameof(Options.ThinkingColumnName), "Column that it adds: what the model thought") with { On = Train },
        Option(MlColumns, nameof(Options.FinishReasonColumnName), "Column that it adds: why the answer ended") with { On = Train },
        Option(MlColumns, nameof(Options.PromptTokensColumnName), "Column that it adds: tokens of the prompt") with { On = Train },
        Option(MlColumns, nameof(Options.NewTokensColumnName), "Column that it adds: tokens of the answer") with { On = Train },
        Option(MlColumns, nameof(Options.ErrorColumnName), "Column that it adds: why there is no answer") with { On = Train },

        Answer(nameof(GenerationOptions.MaximumNewTokens), "Most tokens of an answer", "max_new_tokens") with { ShortNames = ["--max-new-tokens"] },
        Answer(nameof(GenerationOptions.Temperature), "0: always the likeliest token; default: the checkpoint's"),
        Answer(nameof(GenerationOptions.TopK), "Samples among so many tokens; 0: all"),
        Answer(nameof(GenerationOptions.TopP), "Samples among the likeliest tokens that reach this probability"),
        Answer(nameof(GenerationOptions.MinP), "Samples among the tokens that have this share of the likeliest one's probability; 0: off"),
        Answer(nameof(GenerationOptions.RepetitionPenalty), "Above 1 makes repetitions unlikely"),
        Answer(nameof(GenerationOptions.PresencePenalty), "Taken off the scores of tokens that the answer has already; -2 to 2"),
        Answer(nameof(GenerationOptions.FrequencyPenalty), "The same for each time that it has them; -2 to 2"),
        Answer(nameof(GenerationOptions.LogitBias), "Added to the scores of tokens, -100 to 100 by their ids") with { Example = "{151667: -100}" },
        Answer(nameof(GenerationOptions.StopStrings), "An answer ends before one of these", "stop") with { Read = Values.WholeTexts },
        Answer(nameof(GenerationOptions.StopTokenIds), "Tokens that end an answer, by their ids"),
        Answer(nameof(GenerationOptions.IgnoreEndOfText), "Goes on where the model ends its answer", "ignore_eos"),
        Answer(nameof(GenerationOptions.MinimumNewTokens), "Fewest tokens of an answer", "min_new_tokens") with { ShortNames = ["--min-new-tokens"] },
        Answer(nameof(GenerationOptions.TopLogprobs), "Log probabilities of an answer's tokens, and of so many others, in JSON; default: none") with
        {
            On = Train | Generate,
        },
        Answer(nameof(GenerationOptions.ContinueFinalMessage), "Goes on with the assistant's message that a conversation ends with") with
        {
            On = Train | Generate,
        },
        Answer(nameof(GenerationOptions.PromptLookupTokens), "Guesses so many of the next tokens from what stood there before; 0: off",
            "prompt_lookup_num_tokens"),
        Answer(nameof(GenerationOptions.WhenPromptTooLong), "What becomes of a prompt that leaves no room for an answer"),
        Answer(nameof(GenerationOptions.Seed), "Seed of the sampling; default: a new one each time") with { Name = "GenerationSeed" },
        Answer(nameof(GenerationOptions.BatchSize), "Prompts that are answered together") with { Name = "GenerationBatchSize" },
    ];

    /// <summary>The rows of a command.</summary>
    public static IEnumerable<Setting> Of(CommandKinds command) => All.Where(setting => setting.On.HasFlag(command));

    private static Setting Option(SettingGroup group, string name, string description, params Alias[] aliases)
    {
        PropertyInfo property = typeof(Options).GetProperty(name)!;
        return new Setting(name, group, description, property.PropertyType, settings => property.GetValue(settings.Training),
            (settings, value) => property.SetValue(settings.Training, value))
        { Aliases = aliases, LibraryNames = [name] };
    }

    private static Setting Own(SettingGroup group, string name, string description, params Alias[] aliases)
    {
        PropertyInfo property = typeof(RunSettings).GetProperty(name)!;
        return new Setting(name, group, description, property.PropertyType, property.GetValue, property.SetValue) { Aliases = aliases };
    }

    private static Setting Answer(string name, string description, params Alias[] aliases)
    {
        PropertyInfo property = typeof(GenerationOptions).GetProperty(name)!;
        return new Setting(name, Answers, description, property.PropertyType, settings => property.GetValue(settings.Generation),
            (settings, value) => property.SetValue(settings.Generation, value))
        { Aliases = aliases, LibraryNames = [name], On = Train | Answering };
    }

    private static string OfCuda(string name) => $"{nameof(CudaDevice)}.{name}";

    private static Func<Given, object?> Precisions(params WeightPrecision[] precisions) => given =>
        Values.OneOf(given, [.. precisions.Select(precision => (Casing.Snake(precision.ToString()), precision))]);

    private static Func<Given, object?> Between(double least, double most) => given =>
        Values.Number(given) is var number && number >= least && number <= most ? number
            : throw given.Wrong(FormattableString.Invariant($"{least} or more, and at most {most}"));
}
