using System.Text;

namespace MLNetLora.Jinja;

/// <summary>The methods of texts: Python's, without those that no template needs.</summary>
internal static class StringMethods
{
    private static readonly HashSet<string> Names =
    [
        "capitalize", "count", "endswith", "find", "format", "index", "isalnum", "isalpha", "isascii", "isdigit", "islower", "isnumeric", "isspace", "isupper",
        "join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines",
        "startswith", "strip", "swapcase", "title", "upper", "zfill",
    ];

    /// <summary>Whether texts have a method.</summary>
    public static bool Has(string name) => Names.Contains(name);

    /// <summary>Calls a method that texts have.</summary>
    public static object? Invoke(TaggedText self, string name, Arguments arguments, Work work)
    {
        work.Charge(self.Length + 1);
        string value = self.Value;
        switch (name)
        {
            case "upper":
                return self.With(value.ToUpperInvariant());
            case "lower":
                return self.With(Lower(value));
            case "capitalize":
                return Capitalize(self, work);
            case "title":
                return Title(self);
            case "swapcase":
                return self.With(string.Concat(value.Select(c => char.IsUpper(c) ? char.ToLowerInvariant(c) : char.ToUpperInvariant(c))));
            case "strip":
                return Strip(self, arguments.Text(0, "chars"), start: true, end: true);
            case "lstrip":
                return Strip(self, arguments.Text(0, "chars"), start: true, end: false);
            case "rstrip":
                return Strip(self, arguments.Text(0, "chars"), start: false, end: true);
            case "startswith":
                return Prefixes(arguments).Any(prefix => value.StartsWith(prefix, StringComparison.Ordinal));
            case "endswith":
                return Prefixes(arguments).Any(suffix => value.EndsWith(suffix, StringComparison.Ordinal));
            case "removeprefix":
                TaggedText prefix = arguments.RequireText(0, "prefix");
                return value.StartsWith(prefix.Value, StringComparison.Ordinal) ? self.Slice(prefix.Length, self.Length - prefix.Length) : self;
            case "removesuffix":
                TaggedText suffix = arguments.RequireText(0, "suffix");
                return value.EndsWith(suffix.Value, StringComparison.Ordinal) ? self.Slice(0, self.Length - suffix.Length) : self;
            case "split":
                return Splitting.Split(self, arguments.Text(0, "sep"), arguments.Integer(1, "maxsplit", -1), fromEnd: false, work);
            case "rsplit":
                return Splitting.Split(self, arguments.Text(0, "sep"), arguments.Integer(1, "maxsplit", -1), fromEnd: true, work);
            case "splitlines":
                return Splitting.Lines(self, arguments.Truth(0, "keepends", false), work);
            case "partition":
                return Splitting.Partition(self, arguments.RequireText(0, "sep"), fromEnd: false, work);
            case "rpartition":
                return Splitting.Partition(self, arguments.RequireText(0, "sep"), fromEnd: true, work);
            case "replace":
                return Replace(self, arguments.RequireText(0, "old"), arguments.RequireText(1, "new"), arguments.Integer(2, "count", -1), work);
            case "join":
                return Join(self, Python.Iterate(arguments.Require(0, "iterable"), work), work);
            case "count":
                return Occurrences(value, arguments.RequireText(0, "sub").Value, work);
            case "find":
            case "rfind":
            case "index":
                string sought = arguments.RequireText(0, "sub").Value;
                work.ChargeSearch(value.Length, sought.Length);
                int at = name == "rfind" ? value.LastIndexOf(sought, StringComparison.Ordinal) : value.IndexOf(sought, StringComparison.Ordinal);
                return at >= 0 ? (long)CodePoints.NumberOf(value, at) : name == "index" ? throw new JinjaFault("index: the text is not in it") : -1L;
            case "zfill":
                long width = arguments.Integer(0, "width", 0);
                work.Charge(Math.Max(0, width));
                int sign = value.Length > 0 && value[0] is '+' or '-' ? 1 : 0;
                return self.With(value[..sign] + new string('0', (int)Math.Max(0, width - CodePoints.Count(value))) + value[sign..]);
            case "format":
                return BraceFormat.Apply(self, arguments, work);
            default:
                return Is(name, value);
        }
    }

    /// <summary>A text without some characters at its ends; null for white space.</summary>
    public static TaggedText Strip(TaggedText text, TaggedText? characters, bool start, bool end)
    {
        HashSet<int>? set = characters is null ? null : [.. characters.Value.EnumerateRunes().Select(rune => rune.Value)];
        int first = 0;
        int last = text.Length;
        while (start && first < last && Strips(CodePoints.LengthAt(text.Value, first), first))
        {
            first += CodePoints.LengthAt(text.Value, first);
        }

        while (end && last > first && Strips(LengthBefore(last), last - LengthBefore(last)))
        {
            last -= LengthBefore(last);
        }

        return text.Slice(first, last - first);

        int LengthBefore(int at) => at - 1 > first && char.IsSurrogatePair(text.Value[at - 2], text.Value[at - 1]) ? 2 : 1;

        bool Strips(int length, int at) => set is null
            ? length == 1 && JinjaLexer.IsWhiteSpace(text.Value[at])
            : set.Contains(length == 2 ? char.ConvertToUtf32(text.Value[at], text.Value[at + 1]) : text.Value[at]);
    }

    /// <summary>The first character large, the others small.</summary>
    public static TaggedText Capitalize(TaggedText text, Work work)
    {
        int first = text.Length == 0 ? 0 : CodePoints.LengthAt(text.Value, 0);
        return new TaggedTextBuilder(work).Append(Upper(text.Slice(0, first))).Append(Small(text.Slice(first, text.Length - first))).ToText();

        static TaggedText Upper(TaggedText part) => part.With(part.Value.ToUpperInvariant());

        static TaggedText Small(TaggedText part) => part.With(Lower(part.Value));
    }

    /// <summary>Another text in every place of one; count below 0 for all places.</summary>
    public static TaggedText Replace(TaggedText text, TaggedText old, TaggedText replacement, long count, Work work)
    {
        work.ChargeSearch(text.Length, old.Length);
        TaggedTextBuilder result = new(work);
        int from = 0;
        for (long done = 0; done != count; done++)
        {
            // An empty text stands before every character and at the end.
            int at = old.Length > 0
                ? text.Value.IndexOf(old.Value, from, StringComparison.Ordinal)
                : done == 0 ? 0
                : from < text.Length ? from + CodePoints.LengthAt(text.Value, from)
                : -1;
            if (at < 0)
            {
                break;
            }

            work.Charge(1);
            result.Append(text.Slice(from, at - from)).Append(replacement);
            from = at + old.Length;
        }
        return result.Append(text.Slice(from, text.Length - from)).ToText();
    }

    /// <summary>Texts with another between them.</summary>
    public static TaggedText Join(TaggedText separator, IReadOnlyList<object?> parts, Work work)
    {
        TaggedTextBuilder result = new(work);
        for (int i = 0; i < parts.Count; i++)
        {
            if (i > 0)
            {
                result.Append(separator);
            }

            result.Append(parts[i] as TaggedText ?? throw new JinjaFault($"join needs texts, not a {Python.TypeName(parts[i])}"));
        }
        return result.ToText();
    }

    /// <summary>Small letters.</summary>
    public static string Lower(string value)
    {
#pragma warning disable CA1308 // Python's lower, not a normalization for comparing.
        return value.ToLowerInvariant();
#pragma warning restore CA1308
    }

    private static IEnumerable<string> Prefixes(Arguments arguments) => arguments.Require(0, "prefix") is JinjaList { Kind: ListKind.Tuple } tuple
        ? tuple.Items.Select(item => item is TaggedText text ? text.Value : throw new JinjaFault("startswith and endswith need texts"))
        : [arguments.RequireText(0, "prefix").Value];

    private static TaggedText Title(TaggedText text)
    {
        char[] letters = text.Value.ToCharArray();
        bool inWord = false;
        for (int i = 0; i < letters.Length; i++)
        {
            letters[i] = inWord ? Lower(letters[i].ToString())[0] : char.ToUpperInvariant(letters[i]);
            inWord = char.IsLetter(letters[i]);
        }
        return text.With(new string(letters));
    }

    private static long Occurrences(string value, string sought, Work work)
    {
        work.ChargeSearch(value.Length, sought.Length);
        if (sought.Length == 0)
        {
            return CodePoints.Count(value) + 1L;
        }

        long count = 0;
        for (int at = value.IndexOf(sought, StringComparison.Ordinal); at >= 0; at = value.IndexOf(sought, at + sought.Length, StringComparison.Ordinal))
        {
            count++;
        }

        return count;
    }

    private static bool Is(string name, string value)
    {
        Rune[] runes = [.. value.EnumerateRunes()];
        return name switch
        {
            "isascii" => value.All(char.IsAscii),
            "isupper" => runes.Any(Rune.IsUpper) && !runes.Any(Rune.IsLower),
            "islower" => runes.Any(Rune.IsLower) && !runes.Any(Rune.IsUpper),
            _ when runes.Length == 0 => false,
            "isalpha" => runes.All(Rune.IsLetter),
            "isdigit" => runes.All(Rune.IsDigit),
            "isnumeric" => runes.All(Rune.IsNumber),
            "isspace" => value.All(JinjaLexer.IsWhiteSpace),
            _ => runes.All(rune => Rune.IsLetter(rune) || Rune.IsNumber(rune)),
        };
    }
}
