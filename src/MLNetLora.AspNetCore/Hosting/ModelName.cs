namespace MLNetLora.AspNetCore;

/// <summary>Names under which models are asked for.</summary>
internal static class ModelName
{
    private const int Longest = 128;

    /// <summary>What is wrong with a name, to stand behind it; null for nothing.</summary>
    public static string? Fault(string name) => name switch
    {
        "" => "is empty",
        { Length: > Longest } => $"has more than {Longest} characters",
        _ when !char.IsLetterOrDigit(name[0]) || !name.All(c => char.IsLetterOrDigit(c) || "._:-/".Contains(c)) =>
            "is no name: one begins with a letter or a digit and consists of these and of . _ : - /",
        _ => null,
    };
}

/// <summary>A base model that AddMLNetLora has registered.</summary>
/// <param name="Name">Its name.</param>
internal sealed record RegisteredModel(string Name);
