using System.Globalization;
using MLNetLora.Checkpoints;

namespace MLNetLora.Cli.Output;

/// <summary>How far it is, on the standard error: one line that is written over in a terminal, else a line for every tenth.</summary>
internal sealed class DownloadLine(Screen screen) : IProgress<HubProgress>
{
    private readonly Lock _lock = new();
    private readonly LiveLine _line = new(screen);
    private long _tenth = -1;
    private bool _hasEnded;

    public void Report(HubProgress value)
    {
        lock (_lock)
        {
            if (_hasEnded)
            {
                return;
            }

            if (value.Message is { } message)
            {
                _line.End();
                screen.WriteNote(message);
                return;
            }

            long tenth = value.TotalBytes == 0 ? -1 : value.Bytes * 10 / value.TotalBytes;
            if (value.TotalBytes == 0 || (!screen.HasErrorColor && tenth == _tenth))
            {
                return;
            }

            _tenth = tenth;
            string left = value.Remaining is { } remaining ? string.Create(CultureInfo.InvariantCulture, $", {remaining.TotalMinutes:F0} min left") : "";
            string text = string.Create(
                CultureInfo.InvariantCulture,
                $"{value.Bytes / 1e6:N0} of {value.TotalBytes / 1e6:N0} MB  {value.BytesPerSecond / 1e6:F1} MB/s{left}  {Visible.OnOneLine(value.File)}");
            _line.Show(text);
        }
    }

    public void End()
    {
        lock (_lock)
        {
            _line.End();
            _hasEnded = true;
        }
    }
}
