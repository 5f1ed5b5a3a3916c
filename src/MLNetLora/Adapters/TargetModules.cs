using System.Collections;
using System.Runtime.CompilerServices;

namespace MLNetLora.Adapters;

/// <summary>
/// Which linear layers get an adapter, as in PEFT: a list of names (a module matches when its name equals an entry or ends with ".entry"),
/// or one string, which is a regular expression over the whole module name, read as Python does, or "all-linear" for every linear layer but the output layer.
/// </summary>
/// <example><code>TargetModules list = ["q_proj", "v_proj"]; TargetModules regex = @".*\.(0|2)\.self_attn\.q_proj"; TargetModules all =
/// "all-linear";</code></example>
[CollectionBuilder(typeof(TargetModules), nameof(Create))]
public sealed class TargetModules : IEnumerable<string>
{
    internal const string AllLinear = "all-linear";

    private readonly string[] _names;

    private TargetModules(string[] names, string? pattern) => (_names, Pattern) = (names, pattern);

    /// <summary>The string form: a regular expression or "all-linear"; null for a list.</summary>
    public string? Pattern { get; }

    /// <summary>Whether every linear layer but the output layer is meant.</summary>
    public bool IsAllLinear => Pattern == AllLinear;

    /// <summary>Makes the list form; C#'s collection expressions call it.</summary>
    public static TargetModules Create(ReadOnlySpan<string> names) => new(names.ToArray(), null);

    /// <summary>The string form: a regular expression or "all-linear".</summary>
    public static implicit operator TargetModules(string pattern) => new([], pattern);

    /// <summary>The list form.</summary>
    public static implicit operator TargetModules(string[] names) => new([.. names], null);

    /// <summary>The string form: a regular expression or "all-linear".</summary>
    public static TargetModules FromString(string pattern) => pattern;

    /// <inheritdoc/>
    public IEnumerator<string> GetEnumerator() => ((IEnumerable<string>)_names).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => _names.GetEnumerator();

    /// <inheritdoc/>
    public override string ToString() => Pattern ?? string.Join(", ", _names);
}
