using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace MLNetLora.Checkpoints;

/// <summary>Between float32 and the 16-bit types of checkpoints. Little-endian, as safetensors is.</summary>
internal static class FloatConversion
{
    /// <summary>Upcasts bytes of the given type to float32; exact.</summary>
    public static void ToFloat32(ReadOnlySpan<byte> bytes, TensorType type, Span<float> values, string what)
    {
        switch (type)
        {
            case TensorType.Float32:
                bytes.CopyTo(MemoryMarshal.AsBytes(values));
                break;
            case TensorType.Float64:
                TensorPrimitives.ConvertTruncating<double, float>(MemoryMarshal.Cast<byte, double>(bytes), values); // to the nearest
                break;
            case TensorType.Float16:
                TensorPrimitives.ConvertToSingle(MemoryMarshal.Cast<byte, Half>(bytes), values);
                break;
            case TensorType.BFloat16:
                ReadOnlySpan<ushort> source = MemoryMarshal.Cast<byte, ushort>(bytes);
                Span<uint> target = MemoryMarshal.Cast<float, uint>(values);
                for (int i = 0; i < source.Length; i++)
                {
                    target[i] = (uint)source[i] << 16;
                }

                break;
            default:
                throw new CheckpointException($"{what} is not a float tensor of 32 or 16 bits and cannot be read as one.");
        }
    }

    /// <summary>Rounds to the given type, to nearest even.</summary>
    public static byte[] FromFloat32(ReadOnlySpan<float> values, TensorType type)
    {
        if (type == TensorType.Float32)
        {
            return MemoryMarshal.AsBytes(values).ToArray();
        }

        byte[] bytes = new byte[values.Length * 2];
        if (type == TensorType.Float16)
        {
            TensorPrimitives.ConvertToHalf(values, MemoryMarshal.Cast<byte, Half>(bytes.AsSpan()));
            return bytes;
        }

        Span<ushort> target = MemoryMarshal.Cast<byte, ushort>(bytes.AsSpan());
        for (int i = 0; i < values.Length; i++)
        {
            uint bits = BitConverter.SingleToUInt32Bits(values[i]);
            target[i] = float.IsNaN(values[i]) ? (ushort)0x7FC0 : (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
        }

        return bytes;
    }
}
