namespace MLNetLora;

/// <summary>The one sentence in which options are refused: which option, what it is, what it must be.</summary>
internal static class Require
{
    private static readonly int s_mostThreads = Math.Max(64, Environment.ProcessorCount);

    /// <summary>Throws where an option does not hold.</summary>
    /// <param name="holds">Whether the value is allowed.</param>
    /// <param name="option">Name of the option.</param>
    /// <param name="value">Its value.</param>
    /// <param name="allowed">What it must be, to go on after "it must be".</param>
    /// <exception cref="OptionException">It does not hold.</exception>
    public static void That(bool holds, string option, object? value, string allowed)
    {
        if (!holds)
        {
            throw new OptionException(FormattableString.Invariant($"{option} is {value ?? "null"}; it must be {allowed}."));
        }
    }

    /// <summary>Throws where the value of an enumeration is none of its names.</summary>
    /// <exception cref="OptionException">It is none of them.</exception>
    public static void Defined<T>(T value, string option)
        where T : struct, Enum => That(Enum.IsDefined(value), option, value, string.Join(" or ", Enum.GetNames<T>()));

    /// <summary>Throws where a number of threads makes no sense: the runtime starts them all, and beyond the number of processors they only take
    /// turns.</summary>
    /// <exception cref="OptionException">It is negative or too large.</exception>
    public static void Threads(int threads, string option)
    {
        That(threads >= 0, option, threads, "0 (all cores) or more");
        That(threads <= s_mostThreads, option, threads, FormattableString.Invariant($"at most {s_mostThreads} on this machine"));
    }
}
