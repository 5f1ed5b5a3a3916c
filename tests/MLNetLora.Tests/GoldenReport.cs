using Xunit.Abstractions;

namespace MLNetLora.Tests;

/// <summary>Collects the comparisons of one golden folder, prints one line for it and fails on a difference, or when nothing was compared although
/// the folder is there.</summary>
internal sealed class GoldenReport(string kind, ITestOutputHelper output)
{
    private readonly HashSet<string> _cases = [];
    private readonly List<string> _failures = [];
    private readonly List<string> _skipped = [];
    private double _worst;

    /// <summary>Records one comparison; the first word of <paramref name="what"/> is the case.</summary>
    public void Compare(string what, double error, double tolerance)
    {
        _cases.Add(what.Split(' ')[0]);
        _worst = Math.Max(_worst, error);
        output.WriteLine(FormattableString.Invariant($"{what}: {error:e2} of {tolerance:e0}"));
        if (!(error <= tolerance))
        {
            _failures.Add(FormattableString.Invariant($"{what}: {error:e3} is above {tolerance:e0}"));
        }
    }

    /// <summary>Records an equality.</summary>
    public void Equal<T>(string what, IEnumerable<T> actual, IEnumerable<T> expected)
    {
        _cases.Add(what.Split(' ')[0]);
        if (!actual.SequenceEqual(expected))
        {
            _failures.Add($"{what}: [{string.Join(", ", actual)}] instead of [{string.Join(", ", expected)}]");
        }
    }

    /// <summary>Lists a case that is not supported yet.</summary>
    public void Skip(string name, string reason) => _skipped.Add($"{name} ({reason})");

    /// <summary>Prints the line and fails where there is a reason to.</summary>
    public void Finish()
    {
        string line = FormattableString.Invariant($"golden {kind}: {_cases.Count} compared, worst {_worst:0.0e-0}")
            + (_skipped.Count == 0 ? "" : $"; skipped: {string.Join(", ", _skipped)}");
        Console.WriteLine(line);
        output.WriteLine(line);
        Assert.True(_failures.Count == 0, string.Join("\n", _failures.Take(20)));
        Assert.True(_cases.Count > 0, $"golden {kind}: no case was compared; set GOLDEN_DIR to a folder of reference cases.");
    }
}
