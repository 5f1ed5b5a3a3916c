using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>Opens an engine when it is first needed, shares it between threads, and closes it when it is disposed and the last call under way has come back.</summary>
internal sealed class SharedEngine(Func<ITextGenerationEngine> open) : IDisposable
{
    private readonly Lock _lock = new();
    private ITextGenerationEngine? _engine;
    private int _calls;
    private bool _disposed;

    public void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(Volatile.Read(ref _disposed), typeof(QwenLoraTransformer));

    /// <summary>One answer per row. A failure to open is not remembered: the next call tries again.</summary>
    public IReadOnlyList<string> Generate(IReadOnlyList<TextRow> rows, CancellationToken cancellationToken)
    {
        ITextGenerationEngine engine = Enter();
        try
        {
            IReadOnlyList<string> answers = engine.Generate(rows, cancellationToken);
            return answers.Count == rows.Count ? answers : throw new InvalidOperationException($"{rows.Count} prompts gave {answers.Count} answers.");
        }
        finally
        {
            Leave();
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            CloseIfIdle();
        }
    }

    private ITextGenerationEngine Enter()
    {
        lock (_lock)
        {
            ThrowIfDisposed();
            _engine ??= open();
            _calls++;
            return _engine;
        }
    }

    private void Leave()
    {
        lock (_lock)
        {
            _calls--;
            if (_disposed)
            {
                CloseIfIdle();
            }
        }
    }

    private void CloseIfIdle()
    {
        if (_calls == 0)
        {
            _engine?.Dispose();
            _engine = null;
        }
    }
}
