using System.Runtime.InteropServices;
using Microsoft.ML;
using MLNetLora.TextGeneration;

/// <summary>Saves a model where no file may grow beyond a limit, as on a disk that is full. The limit is the process's own: only Linux knows it by
/// this number.</summary>
internal static class FullDisk
{
    private const int FileSize = 1; // RLIMIT_FSIZE
    private const PosixSignal FileSizeExceeded = (PosixSignal)25; // SIGXFSZ, which would end the process

    /// <summary>Loads a zip, sets the limit, and saves.</summary>
    /// <param name="zip">The model zip.</param>
    /// <param name="what">zip, adapter or merge.</param>
    /// <param name="target">The file or folder to save to.</param>
    /// <param name="limit">Bytes that a file may have.</param>
    public static int Run(string zip, string what, string target, ulong limit)
    {
        MLContext context = new();
        using QwenLoraTransformer model = context.TextGeneration.Load(zip);
        using PosixSignalRegistration ignored = PosixSignalRegistration.Create(FileSizeExceeded, signal => signal.Cancel = true);
        if (GetLimit(FileSize, out Limit before) != 0 || SetLimit(FileSize, before with { Current = limit }) != 0)
        {
            Console.WriteLine("no limit");
            return 2;
        }

        Console.WriteLine(Save(model, what, target));
        return 0;
    }

    private static string Save(QwenLoraTransformer model, string what, string target)
    {
        try
        {
            switch (what)
            {
                case "zip":
                    model.Save(target);
                    break;
                case "adapter":
                    model.Adapter.SaveAsPeft(target);
                    break;
                default:
                    model.MergeAndSave(target);
                    break;
            }

            return "saved";
        }
        catch (Exception exception)
        {
            return $"{exception.GetType().Name}: {exception.Message.ReplaceLineEndings(" ")}";
        }
    }

    [DllImport("libc", EntryPoint = "getrlimit")]
    private static extern int GetLimit(int resource, out Limit limit);

    [DllImport("libc", EntryPoint = "setrlimit")]
    private static extern int SetLimit(int resource, in Limit limit);

    private record struct Limit(ulong Current, ulong Most);
}
