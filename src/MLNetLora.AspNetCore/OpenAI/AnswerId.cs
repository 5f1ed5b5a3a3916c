using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>What all parts of an answer say of it.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Created">When it was begun, in seconds since 1970.</param>
/// <param name="Model">The model's name.</param>
/// <param name="Fingerprint">What changes when the same seed may give another answer: another library, or the model loaded anew.</param>
internal sealed record AnswerId(string Id, long Created, string Model, string Fingerprint)
{
    private static readonly string s_version = typeof(AnswerId).Assembly.GetName().Version!.ToString();

    /// <summary>A new answer's.</summary>
    /// <param name="prefix">What the id begins with.</param>
    /// <param name="model">What answers.</param>
    /// <param name="time">The clock.</param>
    public static AnswerId New(string prefix, ServedModel model, TimeProvider time)
    {
        string source = string.Create(CultureInfo.InvariantCulture, $"{s_version}|{model.Name}|{model.Parent}|{model.Created.UtcTicks}");
        string fingerprint = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(source)).AsSpan(0, 5));
        return new AnswerId($"{prefix}{Guid.NewGuid():N}", time.GetUtcNow().ToUnixTimeSeconds(), model.Name, $"fp_{fingerprint}");
    }
}
