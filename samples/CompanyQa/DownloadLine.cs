using System.Globalization;
using MLNetLora.Checkpoints;

namespace CompanyQa;

/// <summary>One line that is written over in a terminal; elsewhere what is told in words.</summary>
internal sealed class DownloadLine : IProgress<HubProgress>
{
    public void Report(HubProgress value)
    {
        if (value.Message is { } message)
        {
            Console.WriteLine(message);
        }
        else if (!Console.IsOutputRedirected)
        {
            string end = value.Bytes == value.TotalBytes ? Environment.NewLine : "";
            Console.Write(string.Create(CultureInfo.InvariantCulture,
                $"\rdownload {value.Bytes / 1e6:F0} of {value.TotalBytes / 1e6:F0} MB  {value.BytesPerSecond / 1e6:F1} MB/s   {end}"));
        }
    }
}
