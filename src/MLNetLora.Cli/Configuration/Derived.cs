using MLNetLora.Checkpoints;
using MLNetLora.Runtime;

namespace MLNetLora.Cli.Configuration;

/// <summary>What follows from several settings together, once all are known.</summary>
internal static class Derived
{
    /// <summary>Works it out.</summary>
    /// <param name="settings">The settings, changed in place.</param>
    /// <param name="decisions">What was said.</param>
    /// <param name="ignore">Receives what has no effect after all, with the reason.</param>
    public static void Apply(RunSettings settings, IReadOnlyDictionary<string, Decision> decisions, Action<Given, string> ignore)
    {
        ApplyRevision(settings, decisions, ignore);
        if (settings.Packing && settings.Training.PackingLength == 0)
        {
            settings.Training.PackingLength = settings.Training.MaximumSequenceLength;
        }

        CudaDevice? cuda = settings.Training.Device as CudaDevice;
        if (settings.MixedPrecision is { } mixed)
        {
            if (cuda is not null)
            {
                settings.Training.ComputeType ??= mixed.Type;
            }
            else
            {
                ignore(mixed.Asked, "the processor computes in float32");
            }
        }

        if (cuda is not null)
        {
            settings.Training.Device = cuda with { Tf32 = settings.Tf32, FusedKernels = settings.FusedKernels, Graphs = settings.CudaGraphs };
        }
        else
        {
            foreach ((string name, bool isSet) in ((string, bool)[])
                [(nameof(settings.Tf32), settings.Tf32), (nameof(settings.FusedKernels), settings.FusedKernels),
                    (nameof(settings.CudaGraphs), settings.CudaGraphs)])
            {
                if (isSet)
                {
                    ignore(decisions[name].From, "it is for GPUs of NVIDIA: --device cuda");
                }
            }
        }

        if (settings.Evaluates == false && (settings.ValidationSize > 0 || settings.Validation.Count > 0))
        {
            ignore(decisions[settings.ValidationSize > 0 ? nameof(settings.ValidationSize) : nameof(settings.Validation)].From, "no evaluation is asked for");
            settings.ValidationSize = 0;
            settings.Validation = [];
        }

        if (settings.ValidationSize > 0 && settings.Validation.Count > 0)
        {
            throw decisions[nameof(settings.ValidationSize)].From.Refused($"{decisions[nameof(settings.Validation)].From.Key} gives validation rows already; "
                + "one of them must go.");
        }

        if (settings.ValidationSize is > 1 and var size && size != Math.Floor(size))
        {
            throw decisions[nameof(settings.ValidationSize)].From.Wrong("a share below 1 or a whole number of rows");
        }
    }

    /// <summary>OWNER/NAME at a revision is OWNER/NAME@REVISION.</summary>
    private static void ApplyRevision(RunSettings settings, IReadOnlyDictionary<string, Decision> decisions, Action<Given, string> ignore)
    {
        const string main = "main"; // which an id without a revision is
        string model = settings.Training.ModelPath;
        if (settings.ModelRevision is not { Length: > 0 } revision || revision == main || model.Length == 0)
        {
            return;
        }

        Given said = decisions[nameof(settings.ModelRevision)].From;
        if (Path.Exists(model) || !ModelFolder.IsHubId(model))
        {
            ignore(said, "the model is no hub id, and has no revisions");
        }
        else if (model.Contains('@', StringComparison.Ordinal))
        {
            throw said.Refused($"{model} names a revision already; one of them must go.");
        }
        else
        {
            settings.Training.ModelPath = $"{model}@{revision}";
        }
    }
}
