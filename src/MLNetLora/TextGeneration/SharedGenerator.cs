using MLNetLora.Inference;

namespace MLNetLora.TextGeneration;

/// <summary>
/// One generator for several owners: opened when it is first asked, closed when its last owner lets go. Begins with one owner. What happens to a call that is under way then is the
/// generator's affair.
/// </summary>
/// <param name="open">Opens it; a failure is not remembered, the next call tries again.</param>
internal sealed class SharedGenerator(Func<TextGenerator> open)
{
    private readonly Lock _lock = new();
    private TextGenerator? _generator;
    private int _owners = 1;

    /// <summary>Whether it was opened and not closed yet.</summary>
    public bool IsOpen
    {
        get
        {
            lock (_lock)
            {
                return _generator is not null;
            }
        }
    }

    /// <summary>One owner more.</summary>
    /// <exception cref="ObjectDisposedException">The last one has let go.</exception>
    public SharedGenerator Share()
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_owners == 0, typeof(QwenLoraTransformer));
            _owners++;
            return this;
        }
    }

    /// <summary>The generator.</summary>
    /// <exception cref="ObjectDisposedException">The last owner has let go.</exception>
    public TextGenerator Open()
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_owners == 0, typeof(QwenLoraTransformer));
            return _generator ??= open();
        }
    }

    /// <summary>One owner less; each calls this once.</summary>
    public void Release()
    {
        TextGenerator? closing;
        lock (_lock)
        {
            _owners--;
            closing = _owners == 0 ? _generator : null;
            _generator = _owners == 0 ? null : _generator;
        }

        closing?.Dispose();
    }
}
