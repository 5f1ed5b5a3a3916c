namespace MLNetLora.Cli.NewCheckpoint;

/// <summary>A tensor to be made: name, shape, and whether it is a norm's weight (ones) or noise.</summary>
internal sealed record TensorSpec(string Name, int[] Shape, bool IsNorm = false)
{
    public long Elements => Shape.Aggregate(1L, (product, dimension) => product * dimension);
}
