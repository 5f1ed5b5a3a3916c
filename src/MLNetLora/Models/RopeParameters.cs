using System.Text.Json;

namespace MLNetLora.Models;

/// <summary>How rotary angles are made. Reads both spellings: rope_theta with rope_scaling, and the newer rope_parameters.</summary>
/// <param name="Type">default, linear or yarn.</param>
/// <param name="Theta">Base of the frequencies.</param>
/// <param name="Factor">Context extension factor; 1 for default.</param>
/// <param name="OriginalMaximumPositions">Context length before extension (yarn).</param>
/// <param name="AttentionFactor">Factor on cos and sin (yarn: 0.1·ln(factor)+1 unless given).</param>
/// <param name="BetaFast">Rotations above which a frequency is kept (yarn).</param>
/// <param name="BetaSlow">Rotations below which a frequency is interpolated whole (yarn).</param>
public sealed record RopeParameters(string Type, double Theta, double Factor = 1, long OriginalMaximumPositions = 0, double AttentionFactor = 1, double BetaFast = 32, double BetaSlow = 1)
{
    internal static RopeParameters Read(JsonElement config, string file, long maximumPositions, double defaultTheta)
    {
        JsonElement scaling = default;
        bool has = (config.TryGetProperty("rope_parameters", out scaling) && scaling.ValueKind == JsonValueKind.Object)
            || (config.TryGetProperty("rope_scaling", out scaling) && scaling.ValueKind == JsonValueKind.Object);
        double theta = has && Number(scaling, "rope_theta") is double inner ? inner : Number(config, "rope_theta") ?? defaultTheta;
        string type = has ? Text(scaling, "rope_type") ?? Text(scaling, "type") ?? "default" : "default";
        double factor = has ? Number(scaling, "factor") ?? 1 : 1;

        // Computed without these, the angles would be wrong without a word.
        foreach (string key in (string[])["mscale", "mscale_all_dim", "partial_rotary_factor", "truncate"])
        {
            JsonElement value = default;
            if (((has && scaling.TryGetProperty(key, out value)) || config.TryGetProperty(key, out value)) && value.ValueKind != JsonValueKind.Null && value.GetRawText() is not ("1" or "1.0" or "true"))
            {
                throw new CheckpointException($"{file} sets {key} to {value.GetRawText()}, which this version does not support.");
            }
        }

        switch (type)
        {
            case "default":
                return new RopeParameters("default", theta);
            case "linear":
                return new RopeParameters("linear", theta, factor);
            case "yarn":
                double attention = Number(scaling, "attention_factor") ?? (factor <= 1 ? 1 : (0.1 * Math.Log(factor)) + 1);
                return new RopeParameters("yarn", theta, factor, (long)(Number(scaling, "original_max_position_embeddings") ?? maximumPositions), attention,
                    Number(scaling, "beta_fast") ?? 32, Number(scaling, "beta_slow") ?? 1);
            default:
                throw new CheckpointException($"{file} asks for the rotary scaling '{type}'; this library knows default, linear and yarn.");
        }
    }

    /// <summary>Tables of cos and sin for positions 0 to count−1, each [count, headSize / 2], in the arithmetic of transformers (frequencies and angles in float32).</summary>
    /// <param name="headSize">Size of one attention head.</param>
    /// <param name="count">Number of positions.</param>
    public (float[] Cos, float[] Sin) Tables(int headSize, int count)
    {
        float[] frequencies = Frequencies(headSize);
        int half = headSize / 2;
        float[] cos = new float[count * half];
        float[] sin = new float[count * half];
        for (int position = 0; position < count; position++)
        {
            for (int i = 0; i < half; i++)
            {
                float angle = position * frequencies[i];
                cos[(position * half) + i] = (float)(Math.Cos(angle) * AttentionFactor);
                sin[(position * half) + i] = (float)(Math.Sin(angle) * AttentionFactor);
            }
        }

        return (cos, sin);
    }

    private float[] Frequencies(int headSize)
    {
        float[] result = new float[headSize / 2];
        (double low, double high) = (0, 0);
        if (Type == "yarn")
        {
            low = Math.Max(Math.Floor(CorrectionDimension(BetaFast)), 0);
            high = Math.Min(Math.Ceiling(CorrectionDimension(BetaSlow)), headSize - 1);
            high = low == high ? high + 0.001 : high;
        }

        for (int i = 0; i < result.Length; i++)
        {
            double plain = 1 / Math.Pow(Theta, 2.0 * i / headSize);
            double ramp = Type switch { "linear" => 1, "yarn" => Math.Clamp((i - low) / (high - low), 0, 1), _ => 0 };
            result[i] = (float)((plain / Factor * ramp) + (plain * (1 - ramp)));
        }

        return result;

        // The pair of dimensions that turns this many times over the original context (Peng et al. 2023, arXiv:2309.00071, section 3.2).
        double CorrectionDimension(double rotations) => headSize * Math.Log(OriginalMaximumPositions / (rotations * 2 * Math.PI)) / (2 * Math.Log(Theta));
    }

    private static double? Number(JsonElement element, string name) => element.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : null;

    private static string? Text(JsonElement element, string name) => element.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
}
