using System.Globalization;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli.Scoring;

/// <summary>Which rows a process answers: of every so many the one at its place, so that each process gets short and long ones alike.</summary>
/// <param name="Index">The process, from 0.</param>
/// <param name="Count">How many processes there are.</param>
internal readonly record struct Shard(int Index, int Count)
{
    private const string Slurm = "SLURM_ARRAY_TASK_ID";

    /// <summary>Variables in which schedulers give a process its number: Kubernetes' indexed jobs, Slurm's job arrays.</summary>
    private static readonly string[] s_variables = ["JOB_COMPLETION_INDEX", Slurm];

    /// <summary>All rows.</summary>
    public static Shard All => new(0, 1);

    /// <summary>Reads I/N, or N alone, with the index from the scheduler's variables.</summary>
    /// <param name="text">What was given; null for all rows.</param>
    /// <param name="variable">Gives an environment variable.</param>
    /// <exception cref="ConfigException">It is neither, or no scheduler says which of them this process is.</exception>
    public static Shard Parse(string? text, Func<string, string?> variable)
    {
        if (text is null)
        {
            return All;
        }

        string[] parts = text.Split('/');
        if (parts.Length > 2 || !TryNumber(parts[^1], out int count) || count < 1)
        {
            throw new ConfigException($"--shard is {text}; it must be I/N with I from 0 to N-1, such as 0/4, or N alone where the scheduler says which.");
        }

        (string index, string from) = parts.Length == 2 ? (parts[0], $"--shard {text}") : OfScheduler(variable, count);
        return TryNumber(index, out int number) && number < count ? new Shard(number, count) : throw new ConfigException(
            $"{from} says shard {index} of {count}; they are counted from 0, so that the last one is {count - 1}.");
    }

    /// <summary>Whether a row is this process's.</summary>
    /// <param name="row">Its number over all files, from 0.</param>
    public bool Has(long row) => row % Count == Index;

    /// <summary>How many of the first rows are this process's.</summary>
    public long Rows(long rows) => (rows - Index + Count - 1) / Count;

    /// <summary>The number of one of its rows over all files.</summary>
    /// <param name="place">Its place among this process's rows, from 0.</param>
    public long Row(long place) => (place * Count) + Index;

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Index}/{Count}");

    private static (string Index, string From) OfScheduler(Func<string, string?> variable, int count)
    {
        foreach (string name in s_variables)
        {
            if (variable(name) is { Length: > 0 } value)
            {
                // A job array may be counted from 1, or from anything.
                int least = name == Slurm && TryNumber(variable("SLURM_ARRAY_TASK_MIN") ?? "", out int first) ? first : 0;
                return (TryNumber(value, out int number) ? (number - least).ToString(CultureInfo.InvariantCulture) : value, $"{name}={value}");
            }
        }

        throw new ConfigException(
            $"--shard is {count}, but none of {string.Join(", ", s_variables)} says which shard this process is: give --shard I/{count}.");
    }

    private static bool TryNumber(string text, out int number) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number);
}
