namespace MLNetLora.Cli.NewCheckpoint;

/// <summary>How numbers are stored, with the names that safetensors and config.json use for it.</summary>
internal sealed record ElementType(string Option, string Safetensors, string Torch, int Size)
{
    public static ElementType Float32 { get; } = new("fp32", "F32", "float32", 4);
    public static ElementType BFloat16 { get; } = new("bf16", "BF16", "bfloat16", 2);
    public static ElementType Float16 { get; } = new("fp16", "F16", "float16", 2);

    public static ElementType Find(string option) =>
        new[] { Float32, BFloat16, Float16 }.FirstOrDefault(type => type.Option == option)
        ?? throw new OptionException($"--dtype {option} is not known; use fp32, bf16 or fp16");

    /// <summary>Stores a number, rounded to nearest even, little-endian.</summary>
    public void Store(float value, Span<byte> destination)
    {
        if (this == Float32)
        {
            BitConverter.TryWriteBytes(destination, value);
        }
        else if (this == Float16)
        {
            BitConverter.TryWriteBytes(destination, (Half)value);
        }
        else
        {
            uint bits = BitConverter.SingleToUInt32Bits(value);
            BitConverter.TryWriteBytes(destination, (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16));
        }
    }
}
