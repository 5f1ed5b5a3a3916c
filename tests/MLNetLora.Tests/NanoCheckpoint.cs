namespace MLNetLora.Tests;

/// <summary>Copies of the sample's checkpoint.</summary>
internal static class NanoCheckpoint
{
    /// <summary>One that writes conversations, tools among them, by another model's template.</summary>
    /// <param name="folder">Where it is written; made where it is not there.</param>
    /// <param name="template">A file of tests/golden/templates.</param>
    /// <returns>The folder's whole path.</returns>
    public static string WithTemplate(string folder, string template)
    {
        folder = Directory.CreateDirectory(folder).FullName;
        foreach (string file in Directory.EnumerateFiles(Repository.Nano))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
        }

        // The instructions of the templates for tools are long.
        string config = Path.Combine(folder, "config.json");
        File.WriteAllText(config, File.ReadAllText(config).Replace(": 512", ": 2048", StringComparison.Ordinal));
        File.Copy(Path.Combine(Repository.Root, "tests", "golden", "templates", template), Path.Combine(folder, "chat_template.jinja"));
        return folder;
    }
}
