using System.Numerics.Tensors;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>Adds an adapter to the base weights for good: W' = W + scaling · B A in float32, with DoRA its rows made as long
/// as their magnitudes, rounded once to the checkpoint's type. A plain Hugging
/// Face checkpoint comes out. What was trained whole replaces the base's.</summary>
internal static class Merge
{
    private static readonly string[] s_deciding =
    [
        "chat_template.jinja", "chat_template.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "qwen.tiktoken",
        "added_tokens.json", "special_tokens_map.json", "generation_config.json",
    ];

    /// <summary>
    /// Writes the merged checkpoint: the same shards with the same names, configuration, tokenizer and template files copied, and what the adapter
    /// was trained to be asked with (mlnetlora_prompt.json), which comes back when the folder is opened for answering.
    /// </summary>
    /// <param name="checkpoint">The base.</param>
    /// <param name="adapter">The adapter.</param>
    /// <param name="folder">Folder to write; made if it is not there. An older merge of the same base in it is replaced when the new one is whole, and
    /// stays as it was when writing fails.</param>
    /// <param name="type">Type of all float tensors, to which they are rounded once; null (default): as the base has each.</param>
    /// <param name="cancellation">Ends it on the way with an <see cref="OperationCanceledException"/>.</param>
    /// <exception cref="OptionException">The folder is the base's own, holds other weights or an adapter, or lies on a drive that is too full.</exception>
    /// <exception cref="AdapterException">The adapter was made for another base.</exception>
    public static void Save(Checkpoint checkpoint, LoraAdapter adapter, string folder, TensorType? type = null, CancellationToken cancellation = default)
    {
        adapter.RequireFit(checkpoint);
        if (checkpoint.IsFourBit)
        {
            throw new OptionException(
                $"The adapter cannot be merged into {checkpoint.Folder}: its weights have 4 bits, and what an adapter adds is mostly smaller than "
                + "the steps between their levels. Merge into the 16- or 32-bit checkpoint that it was quantized from, or answer with the adapter attached.");
        }

        string target = Path.GetFullPath(folder);
        Directory.CreateDirectory(target);
        HashSet<string> written = [.. checkpoint.Files.Select(file => Path.GetFileName(file.Source))];
        foreach (string present in Directory.EnumerateFiles(target, "*.safetensors*").Select(Path.GetFileName).OfType<string>())
        {
            // A link or another spelling of the base's own folder is recognized by what lies in it, not by its name.
            if (RealPath.SameFile(Path.Combine(target, present), Path.Combine(checkpoint.Folder, present)))
            {
                throw new OptionException($"The merged checkpoint would overwrite its own base in {target}; give another folder.");
            }

            if (!written.Contains(present) && present.EndsWith(".safetensors", StringComparison.Ordinal))
            {
                throw new OptionException(
                    $"{target} already holds {present}, which would stand beside the merged weights and be read with them; give an empty folder.");
            }
        }

        if (File.Exists(Path.Combine(target, LoraAdapter.ConfigName)))
        {
            throw new OptionException(
                $"{target} already holds {LoraAdapter.ConfigName}: an adapter that would be applied to the merged weights once more; give an empty folder.");
        }

        if (Stray(checkpoint, target) is { } stray)
        {
            throw new OptionException($"{target} holds {stray}, which the base {checkpoint.Folder} does not have and which would count for the merged model; "
                + "remove it or give an empty folder.");
        }

        Dictionary<string, Func<LoraFactors>> factors = FactorsOf(checkpoint, adapter);
        ILookup<string, TensorEntry> stacks = checkpoint.Architecture.Tensors(checkpoint.Config)
            .Where(tensor => tensor.Stack is not null && factors.ContainsKey(tensor.Name))
            .ToLookup(tensor => tensor.Stack!.Name, tensor => checkpoint.Tensors[tensor.Name].Entry);
        Dictionary<string, TrainedTokenValues> tokens = adapter.Tokens is null ? [] : new() { [adapter.Tokens.Tokens.Base.Name] = adapter.Tokens };
        if (adapter.Tokens is not null && checkpoint.Config.TieWordEmbeddings)
        {
            // A copy of the embedding as output layer, which published checkpoints have: other numbers there, and transformers would not tie the two.
            tokens[checkpoint.Architecture.HeadName(checkpoint.Config with { TieWordEmbeddings = false })] = adapter.Tokens;
        }

        Dictionary<string, float[]> saved = adapter.Saved.ToDictionary(s => s.Tensor.Base.Name, s => s.Values);
        using FileSet files = new(target);
        string[] companions = [.. Companions(checkpoint)];
        long weights = checkpoint.Files.Sum(file => type is null ? new FileInfo(RealPath.Of(file.Source)).Length : MergedType.Length(file, type.Value));
        files.RequireSpace(weights + companions.Sum(file => new FileInfo(RealPath.Of(file)).Length));
        foreach (SafetensorsFile file in checkpoint.Files)
        {
            using FileStream source = File.OpenRead(file.Source);
            files.Write(Path.GetFileName(file.Source), stream => Write(file, source, stream, factors, stacks, saved, tokens, type, cancellation));
        }

        foreach (string path in companions)
        {
            if (type is not null && MergedType.Rewritten(path, checkpoint, type.Value) is { } text)
            {
                files.WriteText(Path.GetFileName(path), text);
            }
            else
            {
                files.Copy(path, cancellation);
            }
        }

        adapter.Prompt.Save(files); // merged or attached, it is asked as it was trained
        cancellation.ThrowIfCancellationRequested();
        files.Commit(QwenConfig.FileName);
    }

    /// <summary>The files of a checkpoint that are no weights, with the index of its shards.</summary>
    public static IEnumerable<string> Companions(Checkpoint checkpoint) => Directory.EnumerateFiles(checkpoint.Folder).Where(IsCompanion);

    /// <summary>A file in a folder for a new checkpoint that would decide how the model is asked, and that the base does not have; null for none.</summary>
    public static string? Stray(Checkpoint checkpoint, string folder) =>
        s_deciding.FirstOrDefault(name => File.Exists(Path.Combine(folder, name)) && !File.Exists(Path.Combine(checkpoint.Folder, name)));

    /// <summary>The factors of each tensor that changes, made when it is written: those of a stack of experts for each matrix of it.</summary>
    private static Dictionary<string, Func<LoraFactors>> FactorsOf(Checkpoint checkpoint, LoraAdapter adapter)
    {
        Dictionary<string, LoraFactors> stacks = adapter.Factors.Where(IsStack).ToDictionary(factors => factors.Module.Module.Name);
        Dictionary<string, Func<LoraFactors>> all = adapter.Factors.Where(factors => !IsStack(factors))
            .ToDictionary(factors => factors.Module.Module.Name + ".weight", Func<LoraFactors> (factors) => () => factors);
        if (stacks.Count > 0)
        {
            foreach (TensorSpec tensor in checkpoint.Architecture.Tensors(checkpoint.Config))
            {
                if (tensor.Stack is { } slice && stacks.TryGetValue(slice.Name, out LoraFactors? stack))
                {
                    all[tensor.Name] = () => stack.Of(tensor);
                }
            }
        }

        return all;

        static bool IsStack(LoraFactors factors) => factors.Module.Parameter is { IsStack: true };
    }

    /// <summary>Adds the adapter's part to some rows of a weight in float32.</summary>
    /// <param name="rows">[rows, in] and perhaps more behind them; changed in place.</param>
    /// <param name="count">How many rows.</param>
    /// <param name="firstRow">Number of the first of them in the whole weight, [out, in].</param>
    /// <param name="factors">The adapter of this layer.</param>
    internal static void AddTo(float[] rows, int count, int firstRow, LoraFactors factors)
    {
        (int inputs, int rank) = (factors.Module.Module.In, factors.Module.Rank);
        Parallel.For(0, count, i =>
        {
            // The delta is summed up first and added once, as PEFT does.
            float[] delta = new float[inputs];
            for (int r = 0; r < rank; r++)
            {
                TensorPrimitives.MultiplyAdd(factors.A.AsSpan(r * inputs, inputs), factors.B[((firstRow + i) * rank) + r], delta, delta);
            }

            Span<float> target = rows.AsSpan(i * inputs, inputs);
            TensorPrimitives.MultiplyAdd(delta, (float)factors.Module.Scaling, target, target);
            if (factors.Magnitude is { } magnitude)
            {
                TensorPrimitives.Multiply(target, magnitude[firstRow + i] / TensorPrimitives.Norm(target), target);
            }
        });
    }

    /// <summary>A merged weight, some rows at a time: whatever its size, the memory stays that of a few million numbers.</summary>
    internal static void WriteMerged(
        SafetensorsFile file,
        TensorEntry entry,
        LoraFactors factors,
        FileStream source,
        Stream target,
        TensorType? type = null,
        CancellationToken cancellation = default)
    {
        const int numbers = 1 << 22;
        (int inputs, int outputs) = (factors.Module.Module.In, factors.Module.Module.Out);
        int height = Math.Clamp(numbers / inputs, 1, outputs);
        int bytesPerRow = checked((int)(entry.Length / outputs));
        byte[] bytes = new byte[height * bytesPerRow];
        float[] rows = new float[height * inputs];
        source.Position = entry.Offset;
        for (int first = 0; first < outputs; first += height)
        {
            cancellation.ThrowIfCancellationRequested();
            int count = Math.Min(height, outputs - first);
            Span<byte> read = bytes.AsSpan(0, count * bytesPerRow);
            if (source.ReadAtLeast(read, read.Length, throwOnEndOfStream: false) < read.Length)
            {
                throw new CheckpointException($"{file.Source} ended in the middle of '{entry.Name}'.");
            }

            Span<float> values = rows.AsSpan(0, count * inputs);
            FloatConversion.ToFloat32(read, entry.Type, values, $"{file.Source}: {entry.Name} ({entry.TypeName})");
            AddTo(rows, count, first, factors);
            if (!float.IsFinite(TensorPrimitives.MaxMagnitude<float>(values)))
            {
                throw new AdapterException(
                    $"Merging the adapter into '{entry.Name}' gives NaN or infinite numbers: its factors or its scaling, {factors.Module.Scaling}, are none to "
                    + "compute with, or the base's weights are not. Nothing was written.");
            }

            SafetensorsWriter.Write(target, MergedType.Fitting(entry.Name, values, type ?? entry.Type), type ?? entry.Type);
        }
    }

    private static void Write(
        SafetensorsFile file,
        FileStream source,
        Stream target,
        Dictionary<string, Func<LoraFactors>> factors,
        ILookup<string, TensorEntry> stacks,
        Dictionary<string, float[]> saved,
        Dictionary<string, TrainedTokenValues> tokens,
        TensorType? asked,
        CancellationToken cancellation)
    {
        byte[] block = new byte[1 << 20];
        TensorEntry[] entries = [.. file.Tensors.Values.OrderBy(entry => entry.Offset).ThenBy(entry => entry.Length)];
        if (asked is { } one)
        {
            SafetensorsWriter.Write(target, MergedType.Items(entries, one, WriteTensor));
            return;
        }

        // The merged file has the base file's header to the byte: same tensors, types, shapes and places.
        Span<byte> prefix = stackalloc byte[8];
        System.Buffers.Binary.BinaryPrimitives.WriteInt64LittleEndian(prefix, file.Header.Length);
        target.Write(prefix);
        target.Write(file.Header.Span);
        foreach (TensorEntry entry in entries)
        {
            WriteTensor(entry, entry.Type);
        }

        void WriteTensor(TensorEntry entry, TensorType type)
        {
            // A tensor of its own, or a stack in the file, whose matrices lie one behind the other.
            TensorEntry[] parts = factors.ContainsKey(entry.Name) ? [entry] : [.. stacks[entry.Name].OrderBy(part => part.Offset)];
            foreach (TensorEntry part in parts)
            {
                WriteMerged(file, part, factors[part.Name](), source, target, type, cancellation);
            }

            if (parts.Length > 0)
            {
                return;
            }

            if (saved.TryGetValue(entry.Name, out float[]? values))
            {
                SafetensorsWriter.Write(target, MergedType.Fitting(entry.Name, Finite(entry.Name, values), type), type);
                return;
            }

            source.Position = entry.Offset;
            long done = 0;
            if (tokens.TryGetValue(entry.Name, out TrainedTokenValues? trained) && entry.Shape.SequenceEqual(trained.Tokens.Base.Shape))
            {
                int width = (int)entry.Shape[1];
                long bytesPerRow = entry.Length / entry.Shape[0];
                foreach ((int i, int id) in trained.Tokens.Ids.Index().OrderBy(item => item.Item))
                {
                    Copy((id * bytesPerRow) - done);
                    SafetensorsWriter.Write(target, MergedType.Fitting(entry.Name, Finite(entry.Name, trained.Values.AsSpan(i * width, width)), type), type);
                    done = (id + 1) * bytesPerRow;
                    source.Position = entry.Offset + done;
                }
            }

            Copy(entry.Length - done);

            void Copy(long left)
            {
                while (left > 0)
                {
                    cancellation.ThrowIfCancellationRequested();
                    int wanted = (int)Math.Min(left, block.Length); // whole numbers: a power of two
                    int read = source.ReadAtLeast(block.AsSpan(0, wanted), wanted, throwOnEndOfStream: false);
                    if (read < wanted)
                    {
                        throw new CheckpointException($"{file.Source} ended in the middle of '{entry.Name}'.");
                    }

                    MergedType.Write(target, block.AsSpan(0, read), entry, type);
                    left -= read;
                }
            }
        }
    }

    private static ReadOnlySpan<float> Finite(string name, ReadOnlySpan<float> values) => float.IsFinite(TensorPrimitives.MaxMagnitude(values))
        ? values
        : throw new AdapterException($"The adapter's '{name}' holds NaN or infinite numbers. Nothing was written.");

    /// <summary>
    /// Everything that belongs to a checkpoint but is no weight: configuration, tokenizer, template, licence, and the code that transformers runs a Qwen1
    /// checkpoint with. What belongs to an adapter that lies in
    /// the same folder stays behind: transformers would apply that adapter to the merged weights once more.
    /// </summary>
    private static bool IsCompanion(string path) =>
        Path.GetFileName(path) is not (LoraAdapter.ConfigName or PromptSettings.FileName)
        && (Path.GetExtension(path) is ".json" or ".txt" or ".jinja" or ".tiktoken" or ".model" or ".py" || Path.GetFileName(path) is "LICENSE" or "NOTICE");
}
