using MLNetLora.Models;

namespace MLNetLora.Runtime;

/// <summary>
/// The rotary tables that the graphs are given: rope_cos and rope_sin, [positions, d/2], and in inference rope_query_cos and rope_query_sin of the same shape
/// where queries have their own. Rows may be rotated by different angles, each kind has a section of the tables, and a row's position_ids begin at its section.
/// </summary>
/// <param name="config">The model.</param>
/// <param name="device">The memory of a device, where the tables then are; null for the process's.</param>
internal sealed class RotaryInputs(QwenConfig config, DeviceMemory? device = null) : IDisposable
{
    private readonly List<RopeParameters> _sections = [config.Rope];
    private Tables _tables = new();
    private int _tableSections;

    /// <summary>Positions in each section.</summary>
    public int Length { get; private set; }

    /// <summary>The number of the section for a row with so many tokens in its prompt; <see cref="Reserve"/> makes it.</summary>
    public int Section(int promptTokens)
    {
        RopeParameters rope = config.Rope.ForPrompt(promptTokens);
        if (!_sections.Contains(rope))
        {
            _sections.Add(rope);
        }

        return _sections.IndexOf(rope);
    }

    /// <summary>The position_id of a section's position 0; valid until the next <see cref="Reserve"/>.</summary>
    public long Start(int section) => (long)section * Length;

    /// <summary>Makes the tables for all sections; nothing where they are long enough.</summary>
    /// <param name="positions">Positions per section.</param>
    /// <exception cref="NativeMemoryException">There is too little memory; the tables are as they were.</exception>
    public void Reserve(int positions)
    {
        if (positions <= Length && _tableSections == _sections.Count)
        {
            return;
        }

        int length = Math.Max(positions, Length);
        Tables tables = new();
        try
        {
            Make(tables, "rope_", length, queries: false);
            if (config.Rope.LogN)
            {
                Make(tables, "rope_query_", length, queries: true);
            }
        }
        catch
        {
            tables.Dispose(); // those that are there stay
            throw;
        }

        _tables.Dispose();
        (_tables, Length, _tableSections) = (tables, length, _sections.Count);
    }

    /// <summary>Adds the tables to a run's inputs.</summary>
    /// <param name="inputs">Receives names and values.</param>
    /// <param name="training">Leaves the queries' own out: a training graph has none.</param>
    public void Add(Dictionary<string, NativeTensor> inputs, bool training)
    {
        foreach ((string name, NativeTensor table) in _tables.ByName)
        {
            if (!training || !name.StartsWith("rope_query", StringComparison.Ordinal))
            {
                inputs[name] = table;
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _tables.Dispose();

    private void Make(Tables tables, string prefix, int length, bool queries)
    {
        int half = config.RotaryDim / 2;
        int numbers = checked(length * half);
        float[] cos = new float[checked(_sections.Count * numbers)];
        float[] sin = new float[cos.Length];
        for (int i = 0; i < _sections.Count; i++)
        {
            (float[] sectionCos, float[] sectionSin) = _sections[i].Tables(config.RotaryDim, length, queries);
            sectionCos.CopyTo(cos, i * numbers);
            sectionSin.CopyTo(sin, i * numbers);
        }

        tables.ByName[prefix + "cos"] = Table(cos);
        tables.ByName[prefix + "sin"] = Table(sin);

        NativeTensor Table(float[] values)
        {
            long[] shape = [(long)_sections.Count * length, half];
            if (device is null)
            {
                return Tensors.Of(values, shape);
            }

            FloatBuffer buffer = new(values.Length, "rotary tables", device);
            tables.OnDevice.Add(buffer);
            buffer.Write(0, values);
            return buffer.View(0, shape);
        }
    }

    private sealed class Tables : IDisposable
    {
        public Dictionary<string, NativeTensor> ByName { get; } = [];

        public List<FloatBuffer> OnDevice { get; } = [];

        public void Dispose()
        {
            foreach (NativeTensor table in ByName.Values)
            {
                table.Dispose();
            }

            ByName.Clear();
            OnDevice.ForEach(buffer => buffer.Dispose());
            OnDevice.Clear();
        }
    }
}
