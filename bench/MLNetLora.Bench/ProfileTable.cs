using System.Globalization;
using System.Text.Json;
using MLNetLora.Runtime;

namespace MLNetLora.Bench;

/// <summary>What a kind of node, or one node, took in all runs of a profile.</summary>
/// <param name="Name">Operator, or node name.</param>
/// <param name="Calls">Times it ran.</param>
/// <param name="Milliseconds">Sum of its kernel times.</param>
/// <param name="Share">Of the sum over all nodes.</param>
internal sealed record ProfileRow(string Name, int Calls, double Milliseconds, double Share);

/// <summary>ONNX Runtime's profile of what an action ran, summed by operator and by node.</summary>
/// <param name="Operators">By operator, most expensive first.</param>
/// <param name="Nodes">By node name, most expensive first.</param>
internal sealed record ProfileTable(IReadOnlyList<ProfileRow> Operators, IReadOnlyList<ProfileRow> Nodes)
{
    /// <summary>Runs an action that makes sessions, runs them and disposes them, on this thread.</summary>
    /// <param name="action">What to measure; profiling slows it down.</param>
    /// <param name="graph">Name of the graph that is wanted, without .onnx.</param>
    /// <param name="lastRun">Counts the last run alone: the first one gets its memory from the system, page by page.</param>
    public static ProfileTable Of(Action action, string graph, bool lastRun = false)
    {
        string folder = Directory.CreateTempSubdirectory("mlnetlora-profile-").FullName;
        try
        {
            OnnxSession.ProfilePrefix = Path.Combine(folder, "profile");
            action();
            return Read(Directory.EnumerateFiles(folder, $"profile.{graph}*.json"), lastRun);
        }
        finally
        {
            OnnxSession.ProfilePrefix = null;
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Sums the node events of profile files: all of them, or those of each file's last run.</summary>
    public static ProfileTable Read(IEnumerable<string> files, bool lastRun = false)
    {
        List<(string Operator, string Node, double Milliseconds)> events = [];
        foreach (string file in files)
        {
            using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(file));
            long from = lastRun
                ? json.RootElement.EnumerateArray()
                    .Where(item => item.GetProperty("name").GetString() == "model_run")
                    .Max(item => item.GetProperty("ts").GetInt64())
                : 0;
            foreach (JsonElement item in json.RootElement.EnumerateArray())
            {
                string name = item.GetProperty("name").GetString()!;
                if (item.GetProperty("cat").GetString() == "Node" && name.EndsWith("_kernel_time",
                    StringComparison.Ordinal) && item.GetProperty("ts").GetInt64() >= from)
                {
                    events.Add((item.GetProperty("args").GetProperty("op_name").GetString()!, name[..^"_kernel_time".Length],
                        item.GetProperty("dur").GetInt64() / 1e3));
                }
            }
        }

        double total = events.Sum(e => e.Milliseconds);
        return new ProfileTable(Rows(e => e.Operator), Rows(e => e.Node));

        List<ProfileRow> Rows(Func<(string Operator, string Node, double Milliseconds), string> key) =>
            [.. events.GroupBy(key).Select(group => new ProfileRow(group.Key, group.Count(), group.Sum(e => e.Milliseconds),
                group.Sum(e => e.Milliseconds) / total)).OrderByDescending(row => row.Milliseconds)];
    }

    /// <summary>Prints the ten most expensive operators and nodes.</summary>
    public void Print(string title)
    {
        foreach ((string what, IReadOnlyList<ProfileRow> rows) in (ReadOnlySpan<(string, IReadOnlyList<ProfileRow>)>)[("operator", Operators), ("node", Nodes)])
        {
            Console.WriteLine($"{title}: by {what}");
            foreach (ProfileRow row in rows.Take(10))
            {
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {row.Share,6:P1} {row.Milliseconds,10:F1} ms {row.Calls,7} x  {row.Name}"));
            }
        }
    }
}
