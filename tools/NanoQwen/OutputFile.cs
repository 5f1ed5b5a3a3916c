using System.Text;
using System.Text.Json;

namespace MLNetLora.Tools.NanoQwen;

/// <summary>Writes a file under a temporary name and renames it, so that nobody ever finds half of one.</summary>
internal static class OutputFile
{
    public static JsonSerializerOptions IndentedJson { get; } = new() { WriteIndented = true, NewLine = "\n" };

    public static void WriteText(string path, string text)
    {
        string temporary = path + ".partial";
        File.WriteAllText(temporary, text, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false));
        File.Move(temporary, path, overwrite: true);
    }
}
