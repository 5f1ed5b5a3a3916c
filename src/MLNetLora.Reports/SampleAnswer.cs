namespace MLNetLora.Reports;

/// <summary>A question, and what the model answered before and after a training.</summary>
/// <param name="Question">What was asked.</param>
/// <param name="Expected">What it should answer; null where nobody says.</param>
/// <param name="Before">What the base answered; null where it was not asked.</param>
/// <param name="After">What the trained model answered; null where it was not asked.</param>
public sealed record SampleAnswer(string Question, string? Expected = null, string? Before = null, string? After = null);
