using MLNetLora.Adapters;

namespace MLNetLora.Inference;

/// <summary>How one loaded model serves many requests.</summary>
public sealed class EngineOptions
{
    private const int MostRows = 65_536;

    /// <summary>
    /// The layers that adapters may be on which <see cref="TextGenerator.Attach"/> takes, as target_modules says it: names or "all-linear". Null (default): the
    /// generator takes none. Fewer layers are faster: each costs a little in every step, whether an adapter is on it or not.
    /// See <see cref="ModulesOf"/>.
    /// </summary>
    public TargetModules? AdapterModules { get; set; }

    /// <summary>Most requests that are answered at once, up to 65,536; further ones wait in the order in which they came. Default 256.</summary>
    public int MaximumRows { get; set; } = 256;

    /// <summary>
    /// Most bytes that keys and values of the requests may come to take which are answered at once, each counted with the longest answer that it may have;
    /// further ones wait, and one that is larger alone is refused with an <see cref="OptionException"/>. Null (default): no limit.
    /// </summary>
    public long? MaximumCacheBytes { get; set; }

    /// <summary>
    /// Most bytes for keys and values of prompts that were read, so that what a later prompt begins with (a system message, a document, a conversation so far)
    /// is not computed again; 0 keeps nothing. What was not used for the longest time goes first. Kept in blocks of 64 tokens, also while nobody asks. Models
    /// with recurrent layers (Qwen3.5) keep nothing. Default 256 MiB, about 10,000 tokens of a 0.5B model.
    /// </summary>
    public long PrefixCacheBytes { get; set; } = 256L << 20;

    /// <summary>The layers that some adapters are on, for <see cref="AdapterModules"/>.</summary>
    /// <param name="adapters">The adapters, one at least.</param>
    /// <exception cref="OptionException">There are none.</exception>
    public static TargetModules ModulesOf(IEnumerable<LoraAdapter> adapters)
    {
        ArgumentNullException.ThrowIfNull(adapters);
        string[] names = [.. adapters.SelectMany(adapter => adapter.Factors).Select(factors => factors.Module.Module.Name).Distinct()];
        return names.Length > 0 ? names : throw new OptionException($"There are no adapters to take {nameof(AdapterModules)} from.");
    }

    /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
    public void Validate()
    {
        Require.That(MaximumRows is >= 1 and <= MostRows, nameof(MaximumRows), MaximumRows, $"between 1 and {MostRows}");
        Require.That(MaximumCacheBytes is null or > 0, nameof(MaximumCacheBytes), MaximumCacheBytes, "above 0");
        Require.That(PrefixCacheBytes >= 0, nameof(PrefixCacheBytes), PrefixCacheBytes, "0 (off) or more");
    }

    /// <summary>Options that later changes of these do not reach.</summary>
    internal EngineOptions Copy() => (EngineOptions)MemberwiseClone();
}
