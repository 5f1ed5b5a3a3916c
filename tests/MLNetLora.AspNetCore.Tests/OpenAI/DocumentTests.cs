using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using MLNetLora.AspNetCore.OpenAI;
using MLNetLora.Tests;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>docs/serving.md names the fields that requests have.</summary>
public sealed partial class DocumentTests
{
    private static readonly string s_section =
        File.ReadAllText(Path.Combine(Repository.Root, "docs", "serving.md")).Split("## What a request may say")[1].Split("\n## ")[0];

    [Fact]
    public void The_table_has_every_field_that_is_served()
    {
        IEnumerable<string> served = new JsonTypeInfo[] { WireJson.Instance.ChatRequestBody, WireJson.Instance.CompletionRequestBody }
            .SelectMany(type => type.Properties).Where(property => !property.IsExtensionData).Select(property => property.Name).Distinct();
        IEnumerable<string> named = s_section.Split('\n').Where(line => line.StartsWith("| `", StringComparison.Ordinal))
            .SelectMany(line => Code().Matches(line.Split('|')[1])).Select(match => match.Groups[1].Value).Distinct();
        Assert.Equal(served.Order(StringComparer.Ordinal), named.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void The_text_has_every_field_that_changes_nothing()
    {
        string text = s_section.Split("These change no answer")[1].Split("\n\n")[0];
        Assert.Equal(
            OtherFields.OfRequests.Order(StringComparer.Ordinal), Code().Matches(text).Select(match => match.Groups[1].Value).Order(StringComparer.Ordinal));
    }

    [GeneratedRegex("`([a-z_]+)`")]
    private static partial Regex Code();
}
