using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

/// <summary>The rooms below, put together for ML.NET's face: rows become tokens, tokens train an adapter, the adapter answers.</summary>
internal sealed class QwenLoraBackend : ITextGenerationBackend
{
    public (LoraAdapter Adapter, TrainingSummary Summary) Train(TrainingRequest request, Action<TrainingProgress> progress, CancellationToken cancellationToken)
    {
        Checkpoint checkpoint = request.Base;
        QwenTokenizer tokenizer = QwenTokenizer.Load(checkpoint.Folder);
        RowTokenizer rowTokenizer = new(new RowFormatter(tokenizer, checkpoint.Folder, request.Prompt.Settings), request.Prompt, request.Training.Threads);
        Preflight preflight = NewPreflight(checkpoint, tokenizer);
        (int count, List<TrainingRow> rows) = rowTokenizer.Tokenize(request.Rows, "training", preflight);
        Preflight ofValidation = new(tokenizer);
        (int validationCount, List<TrainingRow> validation) = request.ValidationRows is null ? (0, []) : rowTokenizer.Tokenize(request.ValidationRows, "validation", ofValidation);
        request.Notice(FormattableString.Invariant($"{count} training rows, {validationCount} for validation."));
        foreach (string notice in rowTokenizer.Notices(preflight, "training").Concat(rowTokenizer.Notices(ofValidation, "validation")))
        {
            request.Notice(notice);
        }

        request.Notice(preflight.ToString());

        // As PEFT does, the adapter names its base the way the user does: a hub id means the same on every machine, the folder of its snapshot does not.
        LoraAdapter fresh = LoraAdapter.Create(request.Lora, checkpoint, request.Training.SeedOrDefault);
        LoraAdapter initial = new(fresh.Options, request.BaseName, fresh.Factors) { Prompt = request.Prompt.Settings };
        request.Notice(initial.DescribeParameters(checkpoint));
        return LoraTraining.Train(checkpoint, request.Lora, rows, request.Training, validation, progress, initial, cancellationToken);
    }

    public ITextGenerationEngine Open(string baseFolder, LoraAdapter adapter, PromptOptions prompt, GenerationOptions generation, WeightPrecision precision) =>
        new Engine(new TextGenerator(Checkpoint.Open(baseFolder), adapter, prompt.SystemPrompt, prompt.PromptTemplate, enableThinking: prompt.EnableThinking, precision: precision), generation);

    public void MergeAndSave(string baseFolder, LoraAdapter adapter, string folder) => Merge.Save(Checkpoint.Open(baseFolder), adapter, folder);

    /// <summary>A preflight that says what is to be known about the checkpoint.</summary>
    public static Preflight NewPreflight(Checkpoint checkpoint, QwenTokenizer tokenizer)
    {
        Preflight preflight = new(tokenizer);
        if (StopCheck.Warning(checkpoint.Folder, checkpoint.Config, tokenizer) is { } warning)
        {
            preflight.Warn(warning);
        }

        return preflight;
    }

    private sealed class Engine(TextGenerator generator, GenerationOptions options) : ITextGenerationEngine
    {
        public IReadOnlyList<string> Generate(IReadOnlyList<TextRow> rows, CancellationToken cancellationToken) =>
            [.. generator.Generate(rows, options, onText: null, cancellationToken).Select(answer => answer.Text)];

        public void Dispose() => generator.Dispose();
    }
}
