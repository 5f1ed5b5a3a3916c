using System.Globalization;

namespace MLNetLora.Cli.Configuration;

/// <summary>Where a value was given.</summary>
/// <param name="Source">A file, or <see cref="CommandLineName"/>.</param>
/// <param name="Line">Line in the file, from 1; 0 on the command line.</param>
internal sealed record Place(string Source, int Line = 0)
{
    public const string CommandLineName = "command line";

    public static Place CommandLine { get; } = new(CommandLineName);

    public bool IsFile => Line > 0;

    public override string ToString() => IsFile ? string.Create(CultureInfo.InvariantCulture, $"{Source}:{Line}") : Source;
}

/// <summary>A value as it was written, not yet known to be a number, a text or anything else: that is what its key asks for.</summary>
/// <param name="Place">Where it stands.</param>
internal abstract record ConfigValue(Place Place)
{
    /// <summary>Whether nothing was said: null, ~ or an empty place.</summary>
    public virtual bool IsNull => false;

    /// <summary>The value on one line, for messages.</summary>
    public abstract string Shown { get; }

    /// <summary>The start of a long text.</summary>
    protected static string Short(string text) => text.Length <= 80 ? text : text[..80] + "…";
}

/// <summary>One word, number or text.</summary>
/// <param name="Text">The characters.</param>
/// <param name="IsQuoted">Whether quotes said that it is a text.</param>
/// <param name="Place">Where it stands.</param>
internal sealed record ScalarValue(string Text, bool IsQuoted, Place Place) : ConfigValue(Place)
{
    public override bool IsNull => !IsQuoted && Text is "" or "~" or "null" or "Null" or "NULL";

    public override string Shown => IsQuoted ? $"\"{Short(Text)}\"" : Short(Text);
}

/// <summary>A list.</summary>
/// <param name="Items">What is in it.</param>
/// <param name="Place">Where it stands.</param>
internal sealed record ListValue(IReadOnlyList<ConfigValue> Items, Place Place) : ConfigValue(Place)
{
    public override string Shown => Short($"[{string.Join(", ", Items.Select(item => item.Shown))}]");
}

/// <summary>Keys with their values, in order; no key is there twice.</summary>
/// <param name="Items">Keys and values.</param>
/// <param name="Place">Where it stands.</param>
internal sealed record MapValue(IReadOnlyList<KeyValuePair<string, ConfigValue>> Items, Place Place) : ConfigValue(Place)
{
    public override string Shown => Short($"{{{string.Join(", ", Items.Select(item => $"{item.Key}: {item.Value.Shown}"))}}}");
}

/// <summary>Something in a configuration or on the command line cannot be used: exit code <see cref="ExitCode.Usage"/>.</summary>
/// <param name="message">What, where, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
internal sealed class ConfigException(string message, Exception? inner = null) : MLNetLoraException(message, inner);
