using System.Runtime.InteropServices;
using MLNetLora.Checkpoints;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>The numbers of a run between two steps, as they are in memory, in a .safetensors file: with <see cref="TrainingState"/> a run goes on from them to
/// the last bit.</summary>
internal static class StateTensors
{
    /// <summary>Name of the file.</summary>
    public const string FileName = "training_state.safetensors";

    private const string Values = "parameters";
    private const int Piece = 1 << 22; // bytes copied at once

    /// <summary>What the file has.</summary>
    /// <param name="parameters">The parameters, of which the padding is saved, too, and the optimizer's states.</param>
    /// <param name="held">What the run took out of the base at its start, by name.</param>
    public static IReadOnlyList<SafetensorsWriter.Item> Items(ParameterSet parameters, IEnumerable<(string Name, float[] Numbers)> held) =>
    [
        new(Values, TensorType.Float32, [parameters.Values.Length], stream => Copy(parameters.Values, stream)),
        .. Parts(parameters).Select(part => new SafetensorsWriter.Item(part.Name, TensorType.UInt8, [part.Memory.Bytes], stream => Copy(part.Memory, stream))),
        .. held.Select(item => SafetensorsWriter.Item.From(item.Name, TensorType.Float32, [item.Numbers.Length], item.Numbers)),
    ];

    /// <summary>Puts them back.</summary>
    /// <param name="file">The file.</param>
    /// <param name="parameters">Receives them.</param>
    /// <param name="alone">Whether the parameters are wanted, and not the optimizer's states.</param>
    /// <exception cref="CheckpointException">The file has another shape.</exception>
    public static void Load(SafetensorsFile file, ParameterSet parameters, bool alone = false)
    {
        using FileStream stream = File.OpenRead(file.Source);
        byte[] piece = new byte[Piece];
        Read(Values, "F32", parameters.Values.Length * sizeof(float),
            (at, bytes) => parameters.Values.Write(at / sizeof(float), MemoryMarshal.Cast<byte, float>(bytes)));
        foreach ((string name, NativeBuffer memory) in alone ? [] : Parts(parameters))
        {
            Read(name, "U8", memory.Bytes, (at, bytes) => memory.Write<byte>(at, bytes));
        }

        void Read(string name, string type, long length, ReadAction write)
        {
            if (!file.Tensors.TryGetValue(name, out TensorEntry? entry) || entry.TypeName != type || entry.Length != length)
            {
                throw new CheckpointException($"{file.Source} has no tensor '{name}' of {length} bytes: it is of a run with other options.");
            }

            stream.Position = entry.Offset;
            for (long at = 0; at < length; at += Piece)
            {
                Span<byte> part = piece.AsSpan(0, (int)Math.Min(Piece, length - at));
                stream.ReadExactly(part);
                write(at, part);
            }
        }
    }

    /// <summary>What the run took out of the base at its start; null where the file has not that many numbers under the name.</summary>
    public static float[]? Held(SafetensorsFile file, string name, int count) =>
        file.Tensors.TryGetValue(name, out TensorEntry? entry) && entry.TypeName == "F32" && entry.Count == count ? file.ReadFloat32(entry) : null;

    private static IEnumerable<(string Name, NativeBuffer Memory)> Parts(ParameterSet parameters) =>
        parameters.States.SelectMany(state => state.Parts).Where(part => part.Memory.Bytes > 0);

    private static void Copy(FloatBuffer from, Stream stream) => Copy(from.Length * sizeof(float), stream,
        from.IsOnDevice ? null : (at, bytes) => MemoryMarshal.AsBytes(from.Span(at / sizeof(float), bytes / sizeof(float))),
        (at, bytes) => from.Read(at / sizeof(float), MemoryMarshal.Cast<byte, float>(bytes)));

    private static void Copy(NativeBuffer from, Stream stream) => Copy(from.Bytes, stream, from.IsOnDevice ? null : from.Span<byte>, from.Read);

    /// <summary>Writes memory piece by piece: as it lies there, or what is on a device by way of a copy.</summary>
    private static void Copy(long length, Stream stream, Func<long, int, Span<byte>>? look, ReadAction read)
    {
        byte[] piece = look is null ? new byte[Math.Min(Piece, length)] : [];
        for (long at = 0; at < length; at += Piece)
        {
            int bytes = (int)Math.Min(Piece, length - at);
            if (look is not null)
            {
                stream.Write(look(at, bytes));
                continue;
            }

            read(at, piece.AsSpan(0, bytes));
            stream.Write(piece.AsSpan(0, bytes));
        }
    }

    private delegate void ReadAction(long at, Span<byte> bytes);
}
