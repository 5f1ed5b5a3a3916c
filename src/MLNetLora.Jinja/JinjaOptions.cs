namespace MLNetLora.Jinja;

/// <summary>Bounds of one rendering. Work is counted in nodes evaluated, elements looped over and characters made.</summary>
public sealed record JinjaOptions
{
    /// <summary>The defaults.</summary>
    public static JinjaOptions Default { get; } = new();

    /// <summary>What every rendering may do. Default 16,000,000, below a second.</summary>
    public long Work { get; init; } = 16_000_000;

    /// <summary>What it may do in addition for every character of the variables, so that long conversations can be rendered. Default 200.</summary>
    public long WorkPerCharacter { get; init; } = 200;

    /// <summary>The clock of <c>strftime_now</c>. Default: the system's, in local time.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;
}
