using System.Runtime.InteropServices;

namespace MLNetLora.Cli.NewCheckpoint;

/// <summary>Writes a whole checkpoint folder; it appears under its name only when it is complete.</summary>
internal sealed record CheckpointWriter(ModelSize Size, ElementType Type)
{
    private static readonly string[] s_tokenizerFiles =
        ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
        "qwen.tiktoken"];

    public ulong Seed { get; init; } = 42;

    public double StandardDeviation { get; init; } = 0.02;

    public long ShardBytes { get; init; } = 5_000_000_000;

    /// <summary>All weights but the norms are zero and holes in the files, which take no room on most disks: for what depends on sizes alone.</summary>
    public bool IsSparse { get; init; }

    /// <summary>Folder whose tokenizer files are copied; null for none.</summary>
    public string? TokenizerFolder { get; init; }

    /// <summary>Writes the folder, which must not exist yet.</summary>
    public void Write(string folder)
    {
        SizeLimits.Require(Size);
        if (Size.VocabularySize < 3)
        {
            throw new OptionException($"--vocab-size {Size.VocabularySize}: at least the three control tokens need a row");
        }

        if (Size.Experts is { } experts && (experts.PerToken < 1 || experts.PerToken > experts.Count))
        {
            throw new OptionException($"--experts-per-token {experts.PerToken}: a token has from 1 to {experts.Count} experts");
        }

        if (ShardBytes < 1)
        {
            throw new OptionException($"--shard-size allows {ShardBytes} bytes; a file needs at least one");
        }

        string target = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        if (Directory.Exists(target) || File.Exists(target))
        {
            throw new OptionException($"--out {folder} exists already; remove it or name another folder");
        }

        if (TokenizerFolder is not null && !File.Exists(Path.Combine(TokenizerFolder, "tokenizer_config.json")))
        {
            throw new OptionException($"--tokenizer {TokenizerFolder} holds no tokenizer_config.json: it is no tokenizer folder");
        }

        SizeLimits.RequireSpace(Size, Type, ShardBytes, target, IsSparse);
        Directory.CreateDirectory(Path.GetDirectoryName(target)!);
        string temporary = $"{target}.partial-{Environment.ProcessId}";
        Directory.CreateDirectory(temporary);
        try
        {
            WriteWeights(temporary);
            ConfigFiles.Write(Size, Type, temporary);
            CopyTokenizer(temporary);
            Directory.Move(temporary, target);
        }
        catch
        {
            Directory.Delete(temporary, recursive: true);
            throw;
        }
    }

    private void WriteWeights(string folder)
    {
        NormalNoise noise = new(StandardDeviation, Type);
        ShardPlan plan = ShardPlan.Make(Size.Tensors(), Type, ShardBytes);
        foreach ((string file, IReadOnlyList<TensorSpec> tensors) in plan.Shards)
        {
            WeightFile.Write(Path.Combine(folder, file), tensors, Type, (stretch, tensor, position) => Fill(noise, stretch.Span, tensor, position), IsSparse);
        }

        if (plan.Shards.Count > 1)
        {
            ConfigFiles.WriteIndex(plan, Type, folder);
        }
    }

    private void Fill(NormalNoise noise, Span<byte> stretch, TensorSpec tensor, long position)
    {
        if (!tensor.IsNorm)
        {
            noise.Fill(stretch, NormalNoise.Key(Seed, tensor.Name), position);
            return;
        }
        Span<byte> one = stackalloc byte[4];
        Type.Store(1f, one);
        if (Type.Size == 4)
        {
            MemoryMarshal.Cast<byte, uint>(stretch).Fill(MemoryMarshal.Read<uint>(one));
        }
        else
        {
            MemoryMarshal.Cast<byte, ushort>(stretch).Fill(MemoryMarshal.Read<ushort>(one));
        }
    }

    private void CopyTokenizer(string folder)
    {
        if (TokenizerFolder is null)
        {
            return;
        }

        foreach (string name in s_tokenizerFiles)
        {
            // Read and written, not File.Copy: a read-only original must not make a read-only copy.
            string source = Path.Combine(TokenizerFolder, name);
            if (File.Exists(source))
            {
                File.WriteAllBytes(Path.Combine(folder, name), File.ReadAllBytes(source));
            }
        }
    }
}
