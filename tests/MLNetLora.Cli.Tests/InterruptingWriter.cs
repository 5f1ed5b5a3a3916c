namespace MLNetLora.Cli.Tests;

/// <summary>Does something once when a line starts with a text.</summary>
internal sealed class InterruptingWriter(string start, Action act) : StringWriter
{
    private bool _done;

    public override void WriteLine(string? value)
    {
        base.WriteLine(value);
        if (!_done && value?.StartsWith(start, StringComparison.Ordinal) == true)
        {
            _done = true;
            act();
        }
    }
}
