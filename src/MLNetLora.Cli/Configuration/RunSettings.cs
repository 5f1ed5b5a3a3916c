using MLNetLora.Inference;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Configuration;

/// <summary>Everything that a command can be told: the library's options, and what the command line adds to them.</summary>
internal sealed class RunSettings
{
    /// <summary>The options of the training.</summary>
    public QwenLoraTrainer.Options Training { get; } = new();

    /// <summary>How answers are generated.</summary>
    public GenerationOptions Generation
    {
        get => Training.Generation;
        set => Training.Generation = value;
    }

    /// <summary>The revision of a hub id without one; null for its main branch.</summary>
    public string? ModelRevision { get; set; }

    /// <summary>Files and patterns of rows, or names of LLaMA-Factory's dataset_info.json.</summary>
    public IReadOnlyList<string> Data { get; set; } = [];

    /// <summary>How the rows are written.</summary>
    public DatasetFormat DataFormat { get; set; }

    /// <summary>The folder of dataset_info.json.</summary>
    public string DatasetFolder { get; set; } = "data";

    /// <summary>Files of rows whose loss is measured.</summary>
    public IReadOnlyList<string> Validation { get; set; } = [];

    /// <summary>Share, below 1, or number of the training rows that are kept for validation.</summary>
    public double ValidationSize { get; set; }

    /// <summary>Whether validation rows are used at all; null where nobody said.</summary>
    public bool? Evaluates { get; set; }

    /// <summary>Most rows that are read; null for all.</summary>
    public int? MaximumRows { get; set; }

    /// <summary>Folder for all that a training leaves.</summary>
    public string? Output { get; set; }

    /// <summary>What resume_from_checkpoint: true reads as: the output folder, which another setting names.</summary>
    public const string OwnFolder = "\0";

    /// <summary>Whether the run in that folder is gone on with.</summary>
    public bool Resume { get; set; }

    /// <summary>Whether results in that folder may be replaced.</summary>
    public bool Overwrite { get; set; }

    /// <summary>Whether the merged checkpoint is written too.</summary>
    public bool Merge { get; set; }

    /// <summary>Whether the model zip is written.</summary>
    public bool Zip { get; set; } = true;

    /// <summary>Steps between plain lines of progress; 0: ten in all.</summary>
    public int LoggingSteps { get; set; }

    /// <summary>How many rows are answered with the model as it was and as it is, for run.html.</summary>
    public int SampleAnswers { get; set; } = 3;

    /// <summary>Whether rows are packed into sequences of MaximumSequenceLength tokens.</summary>
    public bool Packing { get; set; }

    /// <summary>The 16-bit type that is asked for where the device has it; null for none.</summary>
    public (ComputeType Type, Given Asked)? MixedPrecision { get; set; }

    /// <summary>Whether a GPU may compute products of 32-bit floats in TF32.</summary>
    public bool Tf32 { get; set; }

    /// <summary>Whether a GPU takes this library's own kernels.</summary>
    public bool FusedKernels { get; set; }

    /// <summary>Whether a GPU trains with captured graphs.</summary>
    public bool CudaGraphs { get; set; }

    /// <summary>An adapter or model zip to answer with.</summary>
    public string? Adapter { get; set; }
}
