using System.Collections.Frozen;

namespace MLNetLora.Inference.Constraints;

/// <summary>The values of format that are held to, as regular expressions for whole strings.</summary>
internal static class StringFormats
{
    private const string Year = @"[1-9]\d{3}";
    private const string LeapYear = @"([1-9]\d(0[48]|[2468][048]|[13579][26])|([13579][26]|[2468][048])00)";
    private const string Date = $@"({Year}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))|{LeapYear}-02-29)";
    private const string Time = @"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-](0\d|1[0-3]):[0-5]\d)";
    private const string Clock = @"T(\d{1,4}H(\d{1,4}M(\d{1,4}S)?)?|\d{1,4}M(\d{1,4}S)?|\d{1,4}S)";
    private const string Byte = @"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)";
    private const string Label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
    private const string Host = $@"{Label}(\.{Label}){{0,3}}";
    private const string Atom = "[A-Za-z0-9_%+-]{1,20}";
    private const string UriCharacter = "([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})";

    private static readonly FrozenDictionary<string, string> s_patterns = new Dictionary<string, string>
    {
        ["date"] = Date,
        ["time"] = Time,
        ["date-time"] = $"{Date}T{Time}",
        ["duration"] = $@"P(\d{{1,4}}W|(\d{{1,4}}Y(\d{{1,4}}M(\d{{1,4}}D)?)?|\d{{1,4}}M(\d{{1,4}}D)?|\d{{1,4}}D)({Clock})?|{Clock})",
        ["uuid"] = "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}",
        ["email"] = $@"{Atom}(\.{Atom}){{0,3}}@({Label}\.){{1,3}}[A-Za-z]{{2,12}}",
        ["hostname"] = Host,
        ["ipv4"] = $@"{Byte}(\.{Byte}){{3}}",
        ["ipv6"] = "([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,6}:[0-9A-Fa-f]{1,4}|::([0-9A-Fa-f]{1,4}:){0,5}[0-9A-Fa-f]{1,4}|::",
        ["uri"] = $@"[A-Za-z][A-Za-z0-9+.-]{{0,15}}://{Host}(:[1-9]\d{{0,3}})?(/{UriCharacter}*)?(\?({UriCharacter}|\?)*)?(#({UriCharacter}|\?)*)?",
    }.ToFrozenDictionary();

    private static readonly FrozenSet<string> s_refused = new[]
    {
        "idn-email", "idn-hostname", "uri-reference", "iri", "iri-reference", "uri-template", "json-pointer", "relative-json-pointer", "regex",
    }.ToFrozenSet();

    /// <summary>The formats that are held to.</summary>
    public static IEnumerable<string> All => s_patterns.Keys;

    /// <summary>The expression of a format; null where the standard does not know it, so that it is an annotation.</summary>
    /// <exception cref="ConstraintException">It is one of the standard's that cannot be held to.</exception>
    public static Pattern? Of(Schema schema, string format) => s_refused.Contains(format)
        ? throw schema.Refused(
            "format", $"is {format}, which cannot be held to; give a pattern, or leave it out. Held to are {string.Join(", ", s_patterns.Keys.Order())}.")
        : s_patterns.TryGetValue(format, out string? pattern) ? new PatternParser(pattern).Whole() : null;
}
