using MLNetLora.Checkpoints;

namespace MLNetLora.Models;

/// <summary>How rotary angles are made. Reads both spellings: rope_theta with rope_scaling, and the newer rope_parameters.</summary>
/// <param name="Type">default, linear or yarn.</param>
/// <param name="Theta">Base of the frequencies.</param>
/// <param name="Factor">Context extension factor; 1 for default.</param>
/// <param name="OriginalMaximumPositions">Context length before extension (yarn).</param>
/// <param name="AttentionFactor">Factor on cos and sin (yarn: 0.1·ln(factor)+1 unless given).</param>
/// <param name="BetaFast">Rotations above which a frequency is kept (yarn).</param>
/// <param name="BetaSlow">Rotations below which a frequency is interpolated whole (yarn).</param>
internal sealed record RopeParameters(
    string Type,
    double Theta,
    double Factor = 1,
    long OriginalMaximumPositions = 0,
    double AttentionFactor = 1,
    double BetaFast = 32,
    double BetaSlow = 1)
{
    /// <summary>Reads config.json.</summary>
    /// <param name="file">The whole file.</param>
    /// <param name="maximumPositions">max_position_embeddings.</param>
    /// <param name="defaultTheta">rope_theta where the file has none.</param>
    internal static RopeParameters Read(ConfigFile file, long maximumPositions, double defaultTheta)
    {
        ConfigFile? scaling = file.Section("rope_parameters") ?? file.Section("rope_scaling");
        double theta = scaling?.Positive("rope_theta") ?? file.Positive("rope_theta") ?? defaultTheta;
        string type = scaling?.Text("rope_type") ?? scaling?.Text("type") ?? "default";

        // Computed without these, the angles would be wrong without a word.
        foreach (string key in (string[])["mscale", "mscale_all_dim", "partial_rotary_factor", "truncate"])
        {
            if ((scaling?.Value(key) ?? file.Value(key))?.GetRawText() is { } text && text is not ("1" or "1.0" or "true"))
            {
                throw new CheckpointException($"{file.Path} sets {key} to {text}, which this version does not support.");
            }
        }

        if (type == "default" || scaling is null)
        {
            return new RopeParameters("default", theta);
        }

        double factor = scaling.Positive("factor") ?? 1;
        return type switch
        {
            "linear" => new RopeParameters("linear", theta, factor),
            "yarn" => new RopeParameters(
                "yarn",
                theta,
                factor,
                scaling.OptionalInt("original_max_position_embeddings", 1 << 30) ?? maximumPositions,
                scaling.Positive("attention_factor") ?? (factor <= 1 ? 1 : (0.1 * Math.Log(factor)) + 1),
                scaling.Positive("beta_fast") ?? 32,
                scaling.Positive("beta_slow") ?? 1),
            _ => throw new CheckpointException($"{file.Path} asks for the rotary scaling '{type}'; this library knows default, linear and yarn."),
        };
    }

    /// <summary>
    /// Tables of cos and sin for positions 0 to count−1, each [count, headSize / 2], in the arithmetic of transformers (frequencies and angles in float32).
    /// </summary>
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
        double CorrectionDimension(double rotations) =>
            headSize * Math.Log(OriginalMaximumPositions / (rotations * 2 * Math.PI)) / (2 * Math.Log(Theta));
    }
}
