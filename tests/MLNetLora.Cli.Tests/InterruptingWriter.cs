namespace MLNetLora.Cli.Tests;

/// <summary>Does something once when a line starts with a text.</summary>
internal sealed class InterruptingWriter(string start, Action act) : StringWriter
{
    private bool _done;

    /// <summary>Whether it writes to a disk that is full.</summary>
    public bool IsFull { get; init; }

    public override void WriteLine(string? value)
    {
        if (IsFull)
        {
            throw new IOException("No space left on device");
        }

        base.WriteLine(value);
        if (!_done && value?.StartsWith(start, StringComparison.Ordinal) == true)
        {
            _done = true;
            act();
        }
    }
}
