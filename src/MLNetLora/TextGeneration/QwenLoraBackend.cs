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
        InstructionFormatter formatter = new(tokenizer, ChatFormat.Load(checkpoint.Folder), request.Prompt.SystemPrompt, request.Prompt.PromptTemplate);
        Preflight preflight = new(tokenizer);
        List<TrainingRow> rows = Tokenize(formatter, request.Rows, "training", request, preflight);
        List<TrainingRow> validation = Tokenize(formatter, request.ValidationRows ?? [], "validation", request, new Preflight(tokenizer));
        request.Notice(preflight.ToString());

        // As PEFT does, the adapter names its base the way the user does: a hub id means the same on every machine, the folder of its snapshot does not.
        LoraAdapter fresh = LoraAdapter.Create(request.Lora, checkpoint, request.Training.Seed);
        LoraAdapter initial = new(fresh.Options, request.BaseName, fresh.Factors);
        request.Notice(initial.DescribeParameters(checkpoint));
        return LoraTraining.Train(checkpoint, request.Lora, rows, request.Training, validation, progress, initial, cancellationToken);
    }

    public ITextGenerationEngine Open(string baseFolder, LoraAdapter adapter, PromptOptions prompt, GenerationOptions generation, WeightPrecision precision) =>
        new Engine(new TextGenerator(Checkpoint.Open(baseFolder), adapter, prompt.SystemPrompt, prompt.PromptTemplate, precision: precision), generation);

    public void MergeAndSave(string baseFolder, LoraAdapter adapter, string folder) => Merge.Save(Checkpoint.Open(baseFolder), adapter, folder);

    private static List<TrainingRow> Tokenize(InstructionFormatter formatter, IReadOnlyList<InstructionRow> rows, string what, TrainingRequest request, Preflight preflight)
    {
        TokenizedRow[] tokenized = [.. ParallelRows.Convert(rows, row =>
        {
            TrainingRow ids = formatter.Tokenize(row, request.Prompt.LabelScope, request.Prompt.MaximumSequenceLength, out TokenizationReport report);
            return new TokenizedRow(ids, report);
        }, request.Training.Threads)];
        for (int i = 0; i < tokenized.Length; i++)
        {
            if (tokenized[i].Report.IsAnswerCutOff)
            {
                int needed = tokenized[i].Report.Tokens;
                throw new DatasetException($"Row {i + 1} of the {what} data has {needed} tokens, and MaximumSequenceLength is {request.Prompt.MaximumSequenceLength}: nothing of its answer is left. Raise MaximumSequenceLength to {needed}, or shorten the question.");
            }

            preflight.Add(tokenized[i], i + 1);
        }

        if (preflight.TruncatedCount > 0)
        {
            request.Notice($"{preflight.TruncatedCount} of {rows.Count} {what} rows are longer than MaximumSequenceLength ({request.Prompt.MaximumSequenceLength} tokens) and lose the end of their answer: rows {string.Join(", ", preflight.TruncatedRows.Take(20))}{(preflight.TruncatedCount > 20 ? ", …" : "")}.");
        }

        return [.. tokenized.Select(row => row.Row)];
    }

    private sealed class Engine(TextGenerator generator, GenerationOptions options) : ITextGenerationEngine
    {
        public IReadOnlyList<string> Generate(IReadOnlyList<PromptRow> rows, CancellationToken cancellationToken) =>
            [.. generator.Generate([.. rows.Select(row => new InstructionRow(row.Instruction, Input: row.Input))], options, cancellation: cancellationToken).Select(answer => answer.Text)];

        public void Dispose() => generator.Dispose();
    }
}
