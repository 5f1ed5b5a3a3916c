namespace MLNetLora.Models;

/// <summary>
/// Something that generation keeps of a row's tokens so far: past.NAME is an input of the inference graph, present.NAME an output. It begins as zeros.
/// </summary>
/// <param name="Name">LAYER.WHAT.</param>
/// <param name="IsPerToken">Whether it has numbers of its own for every token; what has none stays as large as it is.</param>
/// <param name="Shape">Sizes of the axes for one row, for one token where it has numbers for each; the axis of the tokens then stands before the last.</param>
internal sealed record CacheState(string Name, bool IsPerToken, params IReadOnlyList<long> Shape)
{
    /// <summary>What attention keeps of a layer: keys and values, [kv, d] for each token.</summary>
    public static CacheState[] KeysAndValues(QwenConfig c, int layer) =>
        [new($"{layer}.key", true, c.NumKeyValueHeads, c.HeadDim), new($"{layer}.value", true, c.NumKeyValueHeads, c.HeadDim)];
}
