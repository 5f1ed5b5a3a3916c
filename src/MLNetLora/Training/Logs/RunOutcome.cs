namespace MLNetLora.Training;

/// <summary>How a run ended, in a word.</summary>
internal static class RunOutcome
{
    public const string Finished = "finished";
    public const string Cancelled = "cancelled";
    public const string Failed = "failed";

    /// <summary>The word for what a callback hears at the end.</summary>
    public static string Of(TrainingSummary? summary, Exception? error) => (summary, error) switch
    {
        (_, OperationCanceledException) or ({ WasCancelled: true }, _) => Cancelled,
        (_, not null) => Failed,
        _ => Finished,
    };
}
