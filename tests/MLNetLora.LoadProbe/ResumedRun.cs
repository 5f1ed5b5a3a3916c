using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.ML;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

/// <summary>Trains, or goes on with a training, until somebody ends the process: by SIGKILL, or by SIGTERM, which cancels.</summary>
internal static class ResumedRun
{
    /// <summary>Trains on the rows of a file.</summary>
    /// <param name="model">The base.</param>
    /// <param name="data">The rows.</param>
    /// <param name="output">The folder of the run.</param>
    /// <param name="settings">NAME=VALUE of options.</param>
    public static int Run(string model, string data, string output, string[] settings)
    {
        using CancellationTokenSource source = new();
        using PosixSignalRegistration terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal =>
        {
            signal.Cancel = true;
            source.Cancel();
        });
        MLContext ml = new(seed: 3);
        QwenLoraTrainer.Options options = new()
        {
            ModelPath = model,
            OutputFolder = output,
            ResumeFrom = output,
            SaveSteps = 1,
            SaveTotalLimit = 3,
            Rank = 4,
            Dropout = 0.1,
            Threads = 1,
            GradientAccumulationSteps = 2,
            CancellationToken = source.Token,
            ProgressCallback = step =>
            {
                Console.WriteLine($"step {step.Step}");
                Console.Out.Flush();
            },
        };
        ml.Log += (_, message) => Report(message);
        foreach (string[] setting in settings.Select(setting => setting.Split('=', 2)))
        {
            System.Reflection.PropertyInfo property = typeof(QwenLoraTrainer.Options).GetProperty(setting[0])!;
            Type type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
            property.SetValue(options, type.IsEnum ? Enum.Parse(type, setting[1]) : Convert.ChangeType(setting[1], type, CultureInfo.InvariantCulture));
        }

        try
        {
            using QwenLoraTransformer trained = ml.TextGeneration.Trainers.QwenLora(options).Fit(ml.Data.LoadFromInstructionFile(data));
            Console.WriteLine(trained.TrainingSummary!.WasCancelled ? "cancelled" : "finished");
            return 0;
        }
        catch (OperationCanceledException)
        {
            Console.WriteLine("cancelled before a step");
            return 0;
        }
    }

    private static void Report(LoggingEventArgs message)
    {
        if (message.Kind == Microsoft.ML.Runtime.ChannelMessageKind.Warning)
        {
            Console.WriteLine($"warning: {message.RawMessage}");
        }
    }
}
