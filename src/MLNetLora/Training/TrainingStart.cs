namespace MLNetLora.Training;

/// <summary>What a run will train, as it is known before its first step.</summary>
public sealed record TrainingStart
{
    /// <summary>The base as the user called it: a folder, or a hub id. The peers' name: model_name_or_path.</summary>
    public required string ModelPath { get; init; }

    /// <summary>What is trained: Lora or Full. LLaMA-Factory's name: finetuning_type.</summary>
    public required string Method { get; init; }

    /// <summary>Optimizer steps of the whole run. The peers' name: max_steps.</summary>
    public required int TotalSteps { get; init; }

    /// <summary>The first step that this process makes, from 1; more than 1 where a run is resumed, whose earlier steps were made before.</summary>
    public int FirstStep { get; init; } = 1;

    /// <summary>The steps before <see cref="FirstStep"/>, of a run that is resumed.</summary>
    public IReadOnlyList<TrainingProgress> EarlierSteps { get; init; } = [];

    /// <summary>Tokens of <see cref="EarlierSteps"/>, which sums over a run begin with.</summary>
    internal long TokensBefore => EarlierSteps.Sum(step => step.Tokens);

    /// <summary>Time that <see cref="EarlierSteps"/> took.</summary>
    internal TimeSpan ElapsedBefore => EarlierSteps.Count == 0 ? TimeSpan.Zero : EarlierSteps[^1].Elapsed;

    /// <summary>Rows of the training data.</summary>
    public required long Rows { get; init; }

    /// <summary>Rows whose loss is measured along the way; 0 for none.</summary>
    public long ValidationRows { get; init; }

    /// <summary>Tokens of the training rows, after truncation.</summary>
    public required long Tokens { get; init; }

    /// <summary>Those of them that count in the loss.</summary>
    public required long LabelTokens { get; init; }

    /// <summary>The training data in a few lines, for people: how many rows and tokens, how long they are. Nothing of the texts themselves.</summary>
    public string DataStatistics { get; init; } = "";

    /// <summary>How many numbers are trained.</summary>
    public required long TrainableParameters { get; init; }

    /// <summary>How many numbers the model has, the trained ones included.</summary>
    public required long AllParameters { get; init; }

    /// <summary>The options of the run, as text.</summary>
    public IReadOnlyList<TrainingOption> Options { get; init; } = [];

    /// <summary>The seed that counts.</summary>
    public required int Seed { get; init; }

    /// <summary>Where it is trained: cpu, cuda:0.</summary>
    public required string Device { get; init; }

    /// <summary>When training began; the zone is the machine's.</summary>
    public required DateTimeOffset StartTime { get; init; }

    /// <summary>What is lost of the data or will not be learned, a sentence each.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>Takes what a callback has to warn of on the way: to the log of the run, and into <see cref="TrainingSummary.Warnings"/>.</summary>
    internal Action<string> Warn { get; init; } = static _ => { };
}

/// <summary>An option of a run, as text.</summary>
/// <param name="Name">Its name in C#: LearningRate, Generation.MaximumNewTokens.</param>
/// <param name="Value">Its value, numbers as in English; "null" for none.</param>
/// <param name="IsDefault">Whether it is what it would be if nobody had set it.</param>
public sealed record TrainingOption(string Name, string Value, bool IsDefault);
