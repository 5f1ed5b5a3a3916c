namespace MLNetLora.Cli.Output;

/// <summary>A line on standard error that is written over; where that is no terminal, lines one below another.</summary>
/// <param name="screen">Where it is shown.</param>
internal sealed class LiveLine(Screen screen)
{
    private bool _isOpen;

    /// <summary>Shows a text.</summary>
    public void Show(string text)
    {
        if (screen.HasErrorColor)
        {
            screen.Error.Write($"\r\e[K{text}");
            screen.Error.Flush();
            _isOpen = true;
        }
        else
        {
            screen.Error.WriteLine(text);
        }
    }

    /// <summary>Ends the line; what comes next begins on another.</summary>
    public void End()
    {
        if (_isOpen)
        {
            screen.Error.WriteLine();
            _isOpen = false;
        }
    }
}
