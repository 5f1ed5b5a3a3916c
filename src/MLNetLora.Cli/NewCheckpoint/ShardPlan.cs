namespace MLNetLora.Cli.NewCheckpoint;

/// <summary>Which tensor goes into which file, decided before the first byte is written.</summary>
/// <param name="Shards">File names with their tensors, in order.</param>
internal sealed record ShardPlan(IReadOnlyList<(string File, IReadOnlyList<TensorSpec> Tensors)> Shards)
{
    /// <summary>Fills files up to the limit, as transformers does; a tensor larger than the limit gets a file of its own.</summary>
    public static ShardPlan Make(IEnumerable<TensorSpec> tensors, ElementType type, long limitBytes)
    {
        List<List<TensorSpec>> groups = [[]];
        long size = 0;
        foreach (TensorSpec tensor in tensors)
        {
            long bytes = tensor.Elements * type.Size;
            if (groups[^1].Count > 0 && size + bytes > limitBytes)
            {
                groups.Add([]);
                size = 0;
            }
            groups[^1].Add(tensor);
            size += bytes;
        }
        return new ShardPlan([.. groups.Select((group, i) =>
            (groups.Count == 1 ? "model.safetensors" : $"model-{i + 1:D5}-of-{groups.Count:D5}.safetensors", (IReadOnlyList<TensorSpec>)group))]);
    }
}
