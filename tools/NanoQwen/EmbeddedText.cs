namespace MLNetLora.Tools.NanoQwen;

/// <summary>The texts that travel inside the program: the chat template and the model card.</summary>
internal static class EmbeddedText
{
    public static string Read(string name)
    {
        using Stream stream = typeof(EmbeddedText).Assembly.GetManifestResourceStream(name)
            ?? throw new InvalidOperationException($"the program was built without its resource '{name}'");
        using StreamReader reader = new(stream);
        return reader.ReadToEnd();
    }
}
