using MLNetLora.Artifacts;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>
/// The optimizer's sessions over a set of parameters. A step goes through them in pieces that stay in the processor's caches, on a device whole groups. 8-bit
/// states are floats for a piece at a time: on a device within the graph, on the processor in memory of their own, between which and the codes goes this
/// class, faster than the operators that a graph has for it. All other arithmetic is the runtime's.
/// </summary>
internal sealed class OptimizerStep : IDisposable
{
    /// <summary>Numbers of a piece, a multiple of <see cref="DynamicMap.BlockSize"/>.</summary>
    internal const int PieceLength = 1 << 17;

    private const int DevicePieceLength = 1 << 25; // what stands between the kernels of a piece takes 12 bytes a number: 0.4 GB
    private const int NormPartLength = 1 << 25; // kernels count with 32 bits, and the norm takes as much again as what it reads

    /// <summary>The same where the graph reads and writes codes: enough for the kernels to take longer than their starts, and few enough for what stands
    /// between them to be small beside what the codes save.</summary>
    internal const int CodesPieceLength = 1 << 22;

    private readonly Stack<IDisposable> _owned = [];
    private readonly Optimizer _optimizer;
    private readonly ParameterSet _parameters;
    private readonly TrainingOptions _options;
    private readonly bool _isScaled;
    private readonly FloatBuffer[] _vectors;
    private readonly FloatBuffer[] _scratch;
    private readonly OnnxSession _norm;
    private readonly OnnxSession _step;
    private readonly OnnxSession? _codesStep; // of 8-bit states, where the graph reads and writes the codes
    private readonly FloatBuffer _norms; // the norm, the factor
    private readonly NativeTensor[] _normOutputs;
    private readonly Piece[] _pieces;
    private readonly NativeTensor[][] _parts; // of each vector what the norm reads

    /// <summary>Builds the graphs and creates the sessions.</summary>
    /// <param name="optimizer">The optimizer.</param>
    /// <param name="parameters">What it changes.</param>
    /// <param name="options">The options.</param>
    /// <param name="device">The memory of the device that the parameters are on; null for the process's.</param>
    /// <param name="codesPiece">Numbers of a piece whose codes the graph reads and writes, whole blocks; 0: it has floats. Null: as the device wants
    /// it.</param>
    public OptimizerStep(Optimizer optimizer, ParameterSet parameters, TrainingOptions options, DeviceMemory? device = null, int? codesPiece = null)
    {
        int ofCodes = codesPiece ?? (device is null ? 0 : CodesPieceLength);
        _optimizer = optimizer;
        _parameters = parameters;
        _options = options;
        _isScaled = options.UsedComputeType == ComputeType.Float16;
        _vectors = [parameters.Values, parameters.Gradients];
        (long Start, long Length)[] parts = [.. parameters.Groups.SelectMany(group => Parts(group, device is null ? long.MaxValue : NormPartLength))];
        try
        {
            // The runtime sums a vector on one thread; more would only wait. All run where the parameters are.
            _norm = Own(new OnnxSession(OptimizerModel.Norm(parts.Length, _isScaled), SessionUse.Training, threads: 1, device: device?.Device));
            _step = Own(new OnnxSession(OptimizerModel.Step(optimizer), SessionUse.Training, options.Threads, device: device?.Device));
            bool hasCodes = ofCodes > 0 && parameters.Groups.Any(group => group.IsEightBit);
            _codesStep = hasCodes ? Own(new OnnxSession(OptimizerModel.EightBitStep(optimizer), SessionUse.Training, options.Threads, device: device?.Device))
                : null;
            _norms = Own(new FloatBuffer(2, "the gradients' norm", device));
            _normOutputs = [_norms.View(0, []), _norms.View(1, [])];
            _parts = [.. _vectors.Select(vector => parts.Select(part => vector.View(part.Start, [part.Length])).ToArray())];
            long longest = parameters.Groups.Where(group => group.IsEightBit && !hasCodes).Select(group => group.Length).DefaultIfEmpty(0).Max();
            _scratch = [.. optimizer.States.Select(_ => Own(new FloatBuffer(Math.Min(longest, PieceLength), "a piece of the optimizer's states")))];
            int ofFloats = device is null ? PieceLength : DevicePieceLength;
            _pieces = [.. parameters.Groups.Index().SelectMany(group => group.Item.IsEightBit && hasCodes
                ? CodesPieces(group.Index, group.Item, ofCodes)
                : Pieces(group.Index, group.Item, ofFloats))];
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The global norm of the gradients, before they are clipped to it; to be asked before each step.</summary>
    /// <param name="lossScale">By how much the gradients are too large; 1 but in float16.</param>
    public float Norm(float lossScale = 1)
    {
        (string, double) maximumNorm = ("maximum_norm", _options.MaximumGradientNorm > 0 ? _options.MaximumGradientNorm : float.MaxValue);
        using Scalars maximum = new(_isScaled ? [maximumNorm, ("loss_scale", lossScale)] : [maximumNorm]);
        NativeTensor[] gradients = _parts[1 - ValuesAt];
        _norm.Run([.. maximum.Names, .. gradients.Select((_, i) => $"gradients.{i}")], [.. maximum.Values, .. gradients],
            ["gradient_norm", "clip"], _normOutputs);
        Span<float> norm = stackalloc float[1];
        _norms.Read(0, norm);
        return norm[0];
    }

    /// <summary>
    /// Writes the new parameters where the gradients are, clipped as the last <see cref="Norm"/> says. Whatever it throws, the old parameters are as they were
    /// (the states are not).
    /// </summary>
    /// <param name="learningRate">The rate, before <see cref="TrainingOptions.LoraPlusRatio"/>.</param>
    /// <param name="step">Number of the step, from 1.</param>
    public void Run(double learningRate, int step)
    {
        int values = ValuesAt;
        int gradients = 1 - values;
        string[] floats = [.. _optimizer.States.Select(state => state.Name)];
        string[] codes = [.. floats.SelectMany(name => (string[])[$"{name}.codes", $"{name}.absmax"])];
        foreach (IGrouping<int, Piece> group in _pieces.GroupBy(piece => piece.Group))
        {
            using Scalars scalars = new(_optimizer.Scalars(Numbers(_parameters.Groups[group.Key], learningRate, step)).Select(pair => (pair.Key, pair.Value)));
            foreach (Piece piece in group)
            {
                (OnnxSession session, string[] states) = piece.HasCodes ? (_codesStep!, codes) : (_step, floats);
                Blocks(piece, (vector, start, block) => vector.Dequantize(start, block));
                session.Run(["clip", "parameters", "gradients", .. states, .. scalars.Names],
                    [_normOutputs[1], piece.Vectors[values], piece.Vectors[gradients], .. piece.States, .. scalars.Values],
                    ["new_parameters", .. states.Select(name => "new_" + name)], [piece.Vectors[gradients], .. piece.States]);
                Blocks(piece, (vector, start, block) => vector.Quantize(start, block));
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        while (_owned.TryPop(out IDisposable? owned))
        {
            owned.Dispose();
        }
    }

    /// <summary>Which of the two vectors holds the parameters now.</summary>
    private int ValuesAt => ReferenceEquals(_parameters.Values, _vectors[0]) ? 0 : 1;

    private StepNumbers Numbers(ParameterGroup group, double learningRate, int step) =>
        new(learningRate * (group.IsFast ? _options.LoraPlusRatio ?? 1 : 1), step, group.Decays ? _options.WeightDecay : 0);

    private static IEnumerable<(long Start, long Length)> Parts(ParameterGroup group, long longest)
    {
        for (long at = 0; at < group.Length; at += Math.Min(longest, group.Length))
        {
            yield return (group.Start + at, Math.Min(longest, group.Length - at));
        }
    }

    private IEnumerable<Piece> Pieces(int index, ParameterGroup group, int longest)
    {
        for (long at = 0; at < group.Length; at += longest)
        {
            (long start, int length) = (group.Start + at, (int)Math.Min(longest, group.Length - at));
            NativeTensor[] states = group.IsEightBit
                ? [.. _scratch.Select(scratch => scratch.View(0, [length]))]
                : [.. _parameters.States.Select(state => state.View(start, length))];
            yield return new Piece(index, start, length, group.IsEightBit, false, [.. _vectors.Select(vector => vector.View(start, [length]))], states);
        }
    }

    private IEnumerable<Piece> CodesPieces(int index, ParameterGroup group, int longest)
    {
        for (long at = 0; at < group.Length; at += longest)
        {
            (long start, int length) = (group.Start + at, (int)Math.Min(longest, group.Length - at));
            long[] shape = [length / DynamicMap.BlockSize, DynamicMap.BlockSize];
            NativeTensor[] states = [.. _parameters.States.SelectMany(state => state.Blocks(start, length))];
            yield return new Piece(index, start, length, false, true, [.. _vectors.Select(vector => vector.View(start, shape))], states);
        }
    }

    /// <summary>Does something with every block of 8 bits of a piece and the floats that stand for it, on as many threads as the sessions have.</summary>
    private void Blocks(Piece piece, BlockAction action)
    {
        if (!piece.IsExpanded)
        {
            return;
        }

        const int Together = 32;
        int tasks = (piece.Length + (Together * DynamicMap.BlockSize) - 1) / (Together * DynamicMap.BlockSize);
        ParallelOptions parallel = new() { MaxDegreeOfParallelism = _options.Threads == 0 ? Environment.ProcessorCount : _options.Threads };
        Parallel.For(0, tasks * _scratch.Length, parallel, i =>
        {
            (int state, int task) = Math.DivRem(i, tasks);
            int end = Math.Min(piece.Length, (task + 1) * Together * DynamicMap.BlockSize);
            for (int at = task * Together * DynamicMap.BlockSize; at < end; at += DynamicMap.BlockSize)
            {
                action(_parameters.States[state], piece.Start + at, _scratch[state].Span(at, DynamicMap.BlockSize));
            }
        });
    }

    private T Own<T>(T value)
        where T : IDisposable
    {
        _owned.Push(value);
        return value;
    }

    private delegate void BlockAction(StateVector state, long start, Span<float> block);

    /// <summary>A piece of a group as the runtime sees it: of both vectors of the parameters, and of each state the floats, which may be an expanded copy of
    /// codes, or codes and absmax.</summary>
    private sealed record Piece(int Group, long Start, int Length, bool IsExpanded, bool HasCodes, NativeTensor[] Vectors, NativeTensor[] States);

    /// <summary>Numbers without axes.</summary>
    private sealed class Scalars : IDisposable
    {
        private readonly List<string> _names = [];
        private readonly List<NativeTensor> _values = [];

        public Scalars(IEnumerable<(string Name, double Value)> values)
        {
            try
            {
                foreach ((string name, double value) in values)
                {
                    _values.Add(Tensors.Of([(float)value], []));
                    _names.Add(name);
                }
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public IReadOnlyList<string> Names => _names;

        public IReadOnlyList<NativeTensor> Values => _values;

        public void Dispose() => _values.ForEach(value => value.Dispose());
    }
}
