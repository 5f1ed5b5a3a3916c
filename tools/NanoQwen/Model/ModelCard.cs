using System.Text.RegularExpressions;

namespace MLNetLora.Tools.NanoQwen.Model;

/// <summary>The README.md of the checkpoint: a template whose figures come from the run that made it.</summary>
internal static partial class ModelCard
{
    /// <summary>Stands where a figure is not known yet, before training.</summary>
    public const string Unknown = "(not trained yet)";

    /// <summary>Fills the template; a figure that the template does not know is a mistake, one that is missing is shown as unknown.</summary>
    public static string Fill(IReadOnlyDictionary<string, string> figures)
    {
        string template = EmbeddedText.Read("ModelCard.md");
        HashSet<string> used = [];
        string card = Placeholder().Replace(template, match =>
        {
            used.Add(match.Groups[1].Value);
            return figures.GetValueOrDefault(match.Groups[1].Value, Unknown);
        });
        string[] strangers = [.. figures.Keys.Where(name => !used.Contains(name)).Order(StringComparer.Ordinal)];
        return strangers.Length == 0 ? card : throw new OptionException($"the model card has no place for: {string.Join(", ", strangers)}");
    }

    [GeneratedRegex(@"\{\{(\w+)\}\}")]
    private static partial Regex Placeholder();
}
