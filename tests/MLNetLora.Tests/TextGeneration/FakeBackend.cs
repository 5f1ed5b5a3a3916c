using System.Collections.Concurrent;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Trains nothing and answers "instruction|input", or a conversation's texts, upper case; remembers what it was asked.</summary>
internal sealed class FakeBackend : ITextGenerationBackend
{
    public List<TrainingRequest> Requests { get; } = [];

    /// <summary>Sizes of the batches that were generated, over all engines.</summary>
    public ConcurrentQueue<int> Batches { get; } = [];

    public ConcurrentQueue<string> Opened { get; } = [];

    public ConcurrentQueue<(PromptOptions Prompt, GenerationOptions Generation, WeightPrecision Precision)> OpenedWith { get; } = [];

    public int Disposed;

    public int Steps { get; init; } = 3;

    public bool ReportsValidation { get; init; }

    /// <summary>Called with the rows of every batch.</summary>
    public Action<IReadOnlyList<TextRow>> OnRows { get; set; } = _ => { };

    /// <summary>Called within Generate, before it returns.</summary>
    public Action OnGenerate { get; set; } = () => { };

    public (LoraAdapter Adapter, TrainingSummary Summary) Train(TrainingRequest request, Action<TrainingProgress> progress, CancellationToken cancellationToken)
    {
        // Rows are read once, as they are enumerated; the tests look at them later.
        request = request with { Rows = [.. request.Rows], ValidationRows = request.ValidationRows?.ToList() };
        Requests.Add(request);
        List<TrainingProgress> steps = [];
        for (int step = 1; step <= Steps && !cancellationToken.IsCancellationRequested; step++)
        {
            TrainingProgress made = new(step, Steps, step, Loss: 1.0 / step, GradientNorm: 0.5, request.Training.LearningRate, LabelTokens: 4, Tokens: 9, TokensPerSecond: 1000,
                Elapsed: TimeSpan.FromSeconds(step), Remaining: TimeSpan.FromHours(26), ReportsValidation ? 0.75 : null);
            steps.Add(made);
            progress(made);
        }

        return (TinyCheckpoint.Adapter(request.Base.Folder), new TrainingSummary(steps, cancellationToken.IsCancellationRequested, TimeSpan.FromSeconds(3)));
    }

    public ITextGenerationEngine Open(string baseFolder, LoraAdapter adapter, PromptOptions prompt, GenerationOptions generation, WeightPrecision precision)
    {
        Opened.Enqueue(baseFolder);
        OpenedWith.Enqueue((prompt, generation, precision));
        return new Engine(this);
    }

    public void MergeAndSave(string baseFolder, LoraAdapter adapter, string folder) => adapter.SaveAsPeft(folder);

    private sealed class Engine(FakeBackend owner) : ITextGenerationEngine
    {
        private bool _disposed;

        public IReadOnlyList<string> Generate(IReadOnlyList<TextRow> rows, CancellationToken cancellationToken)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            owner.Batches.Enqueue(rows.Count);
            owner.OnRows(rows);
            owner.OnGenerate();
            ObjectDisposedException.ThrowIf(_disposed, this);
            return [.. rows.Select(row => (row.Instruction is { } asked ? $"{asked.Instruction}|{asked.Input}" : string.Concat(row.Conversation!.Messages.Select(message => message.Content))).ToUpperInvariant())];
        }

        public void Dispose()
        {
            _disposed = true;
            Interlocked.Increment(ref owner.Disposed);
        }
    }
}
