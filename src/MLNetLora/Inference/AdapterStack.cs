using System.Numerics.Tensors;
using MLNetLora.Adapters;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>
/// The factors of all adapters that one engine answers with, layer by layer in one block: [places, rank, in] and [places, rank, out]. Place 0 is the base's,
/// whose factors are zeros. Adapters come and go while others are used; a layer has the rank of its largest. Thread-safe.
/// </summary>
internal sealed class AdapterStack : IDisposable
{
    private const int FirstPlaces = 4;

    private readonly Lock _changes = new(); // one adapter comes or goes at a time
    private readonly Lock _blocks = new(); // which blocks the layers have; held for moments, since runs wait for it
    private readonly DeviceMemory? _device;
    private readonly Layer[] _layers;
    private readonly List<bool> _isTaken = [true]; // by place
    private int _places = FirstPlaces;

    /// <summary>A stack without adapters.</summary>
    /// <param name="modules">The layers that adapters may be on.</param>
    /// <param name="device">The memory of a device; null for the process's.</param>
    public AdapterStack(IReadOnlyList<LinearModule> modules, DeviceMemory? device)
    {
        _device = device;
        _layers = [.. modules.Select(module => new Layer(module))];
    }

    /// <summary>The layers that adapters may be on.</summary>
    public IReadOnlyList<LinearModule> Modules => [.. _layers.Select(layer => layer.Module)];

    /// <summary>Why an adapter cannot stand beside others; null where it can.</summary>
    public string? Refusal(LoraAdapter adapter)
    {
        HashSet<string> names = [.. _layers.Select(layer => layer.Module.Name)];
        AdapterParts parts = adapter.Parts;
        return parts.Saved.Count > 0 ? $"it has tensors that take the base's place ({parts.Saved[0].Tensor.Key})"
            : parts.Tokens is not null ? "it has rows of the embedding (trainable_token_indices)"
            : parts.Modules.FirstOrDefault(module => module.Parameter is not null) is { } bare ? $"it is on a bare parameter ({bare.KeyA})"
            : parts.Modules.FirstOrDefault(module => module.UseDora) is { } dora ? $"it has DoRA's magnitudes ({dora.KeyMagnitude})"
            : parts.Modules.FirstOrDefault(module => !names.Contains(module.Module.Name)) is { } other
                ? $"it is on {other.Module.Name}, and the engine was opened for adapters on other layers "
                    + $"({nameof(EngineOptions)}.{nameof(EngineOptions.AdapterModules)})"
            : null;
    }

    /// <summary>Takes an adapter in.</summary>
    /// <returns>Its place.</returns>
    /// <exception cref="NativeMemoryException">There is too little memory; the others are as they were.</exception>
    public int Add(LoraAdapter adapter)
    {
        lock (_changes)
        {
            int place = _isTaken.IndexOf(false);
            place = place < 0 ? _isTaken.Count : place;
            int places = place < _places ? _places : _places * 2;
            Dictionary<string, LoraFactors> factors = adapter.Factors.ToDictionary(layer => layer.Module.Module.Name);
            List<(Layer Layer, Block New)> grown = [];
            try
            {
                foreach (Layer layer in _layers)
                {
                    int rank = Math.Max(layer.Block?.Rank ?? 0, factors.GetValueOrDefault(layer.Module.Name)?.Module.Rank ?? 0);
                    if (rank > 0 && (layer.Block is not { } block || block.Rank < rank || block.Places < places))
                    {
                        grown.Add((layer, Block.From(layer.Block, layer.Module, places, rank, _device)));
                    }
                }
            }
            catch
            {
                grown.ForEach(item => item.New.Dispose());
                throw;
            }

            lock (_blocks)
            {
                foreach ((Layer layer, Block block) in grown)
                {
                    layer.Block?.Dispose(); // runs under way hold what they read
                    layer.Block = block;
                }
            }

            foreach (Layer layer in _layers)
            {
                LoraFactors? own = factors.GetValueOrDefault(layer.Module.Name);
                layer.Block?.Write(place, own, layer.Module); // no run asks for this place yet
                if (own is not null)
                {
                    layer.Ranks[place] = own.Module.Rank;
                }
            }

            _places = places;
            if (place == _isTaken.Count)
            {
                _isTaken.Add(true);
            }

            _isTaken[place] = true;
            return place;
        }
    }

    /// <summary>Gives a place away; no request may name it any more.</summary>
    public void Remove(int place)
    {
        lock (_changes)
        {
            _isTaken[place] = false;
            foreach (Layer layer in _layers)
            {
                layer.Ranks.Remove(place);
                Shrink(layer);
            }
        }
    }

    /// <summary>Adds a run's inputs: the factors of the places from the first to the last that takes part, and which token belongs where.</summary>
    /// <param name="rows">The place of each row's adapter.</param>
    /// <param name="length">Tokens of each row.</param>
    /// <param name="outputs">Tokens of each row whose scores are wanted.</param>
    /// <param name="inputs">Receives names and values.</param>
    /// <param name="owned">Receives the values that live for one run.</param>
    public void AddTo(IReadOnlyList<int> rows, int length, int outputs, Dictionary<string, NativeTensor> inputs, List<NativeTensor> owned)
    {
        (int first, int last) = (rows.Min(), rows.Max());
        int groups = last - first + 1;
        Sort(rows, first, groups, length, AdapterGroups.Names);
        Sort(rows, first, groups, outputs, AdapterGroups.OutputNames);
        lock (_blocks)
        {
            foreach (Layer layer in _layers)
            {
                // The base alone has factors without rank: their product is zeros, for nothing.
                (inputs[AdapterGroups.NameA(layer.Module)], inputs[AdapterGroups.NameB(layer.Module)]) = layer.Block is { } block && last > 0
                    ? (Own(block.A(first, groups, layer.Module)), Own(block.B(first, groups, layer.Module)))
                    : (Own(Tensors.Of(Array.Empty<float>(), groups, 0, layer.Module.In)), Own(Tensors.Of(Array.Empty<float>(), groups, 0, layer.Module.Out)));
            }
        }

        void Sort(IReadOnlyList<int> rows, int first, int groups, int length, (string Tokens, string Places) names)
        {
            int[] counts = new int[groups];
            foreach (int place in rows)
            {
                counts[place - first] += length;
            }

            int size = counts.Max();
            long[] tokens = new long[groups * size];
            long[] places = new long[rows.Count * length];
            Array.Clear(counts);
            for (int i = 0; i < places.Length; i++)
            {
                int group = rows[i / length] - first;
                int at = (group * size) + counts[group]++;
                (tokens[at], places[i]) = (i, at);
            }

            inputs[names.Tokens] = Own(Tensors.Of(tokens, groups, size));
            inputs[names.Places] = Own(Tensors.Of(places, places.Length));
        }

        NativeTensor Own(NativeTensor value)
        {
            owned.Add(value);
            return value;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Layer layer in _layers)
        {
            layer.Block?.Dispose();
        }
    }

    /// <summary>
    /// Gives back what a rank takes of memory, and of all others' time, that nobody has any more. Where that is less than half, it is not worth the copy, for
    /// which runs wait.
    /// </summary>
    private void Shrink(Layer layer)
    {
        int rank = layer.Ranks.Values.DefaultIfEmpty().Max();
        if (layer.Block is not { } large || large.Rank < 2 * rank)
        {
            return;
        }

        try
        {
            Block? small = rank == 0 ? null : Block.From(large, layer.Module, large.Places, rank, _device);
            lock (_blocks)
            {
                layer.Block = small;
                large.Dispose(); // runs under way hold what they read
            }
        }
        catch (Exception e) when (e is NativeMemoryException or ObjectDisposedException)
        {
            // It stays as it is; or all of it was dropped, and the collector, which has no order, has had the block before the adapter.
        }
    }

    private sealed class Layer(LinearModule module)
    {
        public LinearModule Module => module;

        /// <summary>The ranks of the adapters that are on the layer, by their places.</summary>
        public Dictionary<int, int> Ranks { get; } = [];

        /// <summary>Null while no adapter is on the layer.</summary>
        public Block? Block { get; set; }
    }

    /// <summary>The factors of a layer.</summary>
    private sealed class Block : IDisposable
    {
        private readonly NativeBuffer _a; // [places, rank, in]
        private readonly NativeBuffer _b; // [places, rank, out]

        private Block(LinearModule module, int places, int rank, DeviceMemory? device)
        {
            (Places, Rank) = (places, rank);
            _a = new NativeBuffer(checked(sizeof(float) * (long)places * rank * module.In), "the adapters", device);
            try
            {
                _b = new NativeBuffer(checked(sizeof(float) * (long)places * rank * module.Out), "the adapters", device);
            }
            catch
            {
                _a.Dispose();
                throw;
            }
        }

        public int Places { get; }

        public int Rank { get; }

        /// <summary>One with what another has, as far as it has room: ranks that it has not are zeros.</summary>
        public static Block From(Block? old, LinearModule module, int places, int rank, DeviceMemory? device)
        {
            Block block = new(module, places, rank, device);
            for (int i = 0; old is not null && i < old.Places; i++)
            {
                Copy(old._a, block._a, module.In, i);
                Copy(old._b, block._b, module.Out, i);
            }

            return block;

            void Copy(NativeBuffer from, NativeBuffer to, int columns, int place)
            {
                long bytes = sizeof(float) * (long)columns;
                from.CopyTo(place * old!.Rank * bytes, to, place * rank * bytes, Math.Min(old.Rank, rank) * bytes);
            }
        }

        public void Write(int place, LoraFactors? factors, LinearModule module)
        {
            float[] a = new float[Rank * module.In];
            float[] b = new float[Rank * module.Out];
            if (factors is not null)
            {
                int rank = factors.Module.Rank;
                factors.A.CopyTo(a, 0);
                for (int i = 0; i < module.Out; i++)
                {
                    for (int r = 0; r < rank; r++)
                    {
                        b[(r * module.Out) + i] = factors.B[(i * rank) + r];
                    }
                }

                TensorPrimitives.Multiply(b, (float)factors.Module.Scaling, b);
            }

            _a.Write<float>(sizeof(float) * (long)place * a.Length, a);
            _b.Write<float>(sizeof(float) * (long)place * b.Length, b);
        }

        public NativeTensor A(int first, int groups, LinearModule module) => View(_a, first, groups, module.In);

        public NativeTensor B(int first, int groups, LinearModule module) => View(_b, first, groups, module.Out);

        public void Dispose()
        {
            _a.Dispose();
            _b.Dispose();
        }

        private NativeTensor View(NativeBuffer memory, int first, int groups, int columns) => memory.View(
            ElementType.Float32, sizeof(float) * (long)first * Rank * columns, [groups, Rank, columns], sizeof(float) * (long)groups * Rank * columns);
    }
}
