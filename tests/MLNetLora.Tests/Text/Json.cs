using System.Text.Json;

namespace MLNetLora.Tests.Text;

/// <summary>Reads the JSON of golden cases.</summary>
internal static class Json
{
    /// <summary>The elements of a file that holds an array.</summary>
    public static IEnumerable<JsonElement> Array(string path) => Root(path).EnumerateArray();

    /// <summary>The value that a file holds.</summary>
    public static JsonElement Root(string path) => JsonDocument.Parse(File.ReadAllBytes(path)).RootElement;

    /// <summary>An array of whole numbers.</summary>
    public static int[] Integers(JsonElement array) => [.. array.EnumerateArray().Select(value => value.GetInt32())];
}
