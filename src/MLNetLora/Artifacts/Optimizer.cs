using MLNetLora.Onnx;
using MLNetLora.Quantization;

namespace MLNetLora.Artifacts;

/// <summary>An optimizer as data.</summary>
/// <param name="States">What it remembers between steps: vectors as long as the parameters, zeros at first. Empty for an optimizer without memory.</param>
/// <param name="Build">Writes one step as a graph: from parameters, clipped gradients and states to the new ones.</param>
/// <param name="Scalars">The numbers that the graph of a step is given, by the names that <paramref name="Build"/> asks for.</param>
internal sealed record Optimizer(
    IReadOnlyList<OptimizerState> States,
    Func<GraphBuilder, StepInputs, StepOutputs> Build,
    Func<StepNumbers, IReadOnlyDictionary<string, double>> Scalars)
{
    /// <summary>Tensors of at least so many numbers have their states in 8 bits (bitsandbytes' min_8bit_size), embeddings excepted as in transformers;
    /// null: none has.</summary>
    public int? EightBitFrom { get; init; }

    /// <summary>Whether a tensor's states are held in 8 bits.</summary>
    public bool IsEightBit(TrainableTensor tensor) => EightBitFrom is int least && States.Count > 0 && tensor.Count >= least && !tensor.IsEmbedding;

    /// <summary>Bytes of the states of some tensors.</summary>
    public long StateBytes(IEnumerable<TrainableTensor> tensors) => States.Count * tensors.Sum(tensor =>
    {
        long blocks = (tensor.Count + DynamicMap.BlockSize - 1) / DynamicMap.BlockSize;
        return IsEightBit(tensor) ? blocks * (DynamicMap.BlockSize + sizeof(float)) : tensor.Count * sizeof(float);
    });
}

/// <summary>One of an optimizer's states.</summary>
/// <param name="Name">What it is called in the graph, where its new value is new_NAME.</param>
/// <param name="IsSigned">Whether it has numbers below zero, which decides the map of its 8 bits.</param>
internal sealed record OptimizerState(string Name, bool IsSigned)
{
    /// <summary>The map of its 8 bits.</summary>
    public DynamicMap Map => IsSigned ? DynamicMap.Signed : DynamicMap.Unsigned;
}

/// <summary>What a step reads. Each of its vectors is read by one node: what that node makes may be read by several, and the new vector, which
/// depends on it, may be written over the old one.</summary>
/// <param name="Parameters">[n].</param>
/// <param name="Gradients">[n], clipped.</param>
/// <param name="States">[n] each, in the optimizer's order.</param>
/// <param name="Scalar">A number of the step by its name: no axes.</param>
internal sealed record StepInputs(Value Parameters, Value Gradients, IReadOnlyList<Value> States, Func<string, Value> Scalar);

/// <summary>What a step makes.</summary>
/// <param name="Parameters">[n], made last: it depends on everything that reads a gradient.</param>
/// <param name="States">[n] each, in the optimizer's order.</param>
internal sealed record StepOutputs(Value Parameters, IReadOnlyList<Value> States);

/// <summary>What a step's scalars are made from.</summary>
/// <param name="LearningRate">The rate of the parameters.</param>
/// <param name="Step">Number of the step, from 1.</param>
/// <param name="WeightDecay">Decay of the parameters; 0 for those that do not decay.</param>
internal sealed record StepNumbers(double LearningRate, int Step, double WeightDecay);
