namespace MLNetLora.Jinja;

/// <summary>Jinja's filters on texts. Whatever they are used on is text first.</summary>
internal static class TextFilters
{
    /// <summary>Registers them.</summary>
    public static void AddTo(Dictionary<string, FilterBody> filters)
    {
        foreach (string name in (ReadOnlySpan<string>)["upper", "lower"])
        {
            filters[name] = (evaluator, value, arguments) => StringMethods.Invoke(Text(value, evaluator), name, arguments, evaluator.Work);
        }

        filters["capitalize"] = (evaluator, value, _) => StringMethods.Capitalize(Text(value, evaluator), evaluator.Work);
        filters["title"] = (evaluator, value, _) => Title(Text(value, evaluator));
        filters["trim"] = (evaluator, value, arguments) => StringMethods.Strip(Text(value, evaluator), arguments.Text(0, "chars"), start: true, end: true);
        filters["replace"] = (evaluator, value, arguments) => StringMethods.Replace(
            Text(value, evaluator),
            Text(arguments.Require(0, "old"), evaluator),
            Text(arguments.Require(1, "new"), evaluator),
            arguments.Integer(2, "count", -1),
            evaluator.Work);
        filters["escape"] = filters["e"] = filters["forceescape"] = (evaluator, value, _) => Escape(Text(value, evaluator), evaluator.Work);
        filters["indent"] = (evaluator, value, arguments) => Indent(Text(value, evaluator), arguments, evaluator.Work);
    }

    private static TaggedText Text(object? value, Evaluator evaluator)
    {
        TaggedText text = PythonText.Str(value, evaluator.Work);
        evaluator.Work.Charge(text.Length + 1);
        return text;
    }

    /// <summary>Unlike the method title, a word begins only behind white space, a hyphen or an opening bracket.</summary>
    private static TaggedText Title(TaggedText text)
    {
        char[] letters = text.Value.ToCharArray();
        bool begins = true;
        for (int i = 0; i < letters.Length; i++)
        {
            bool separates = letters[i] is '-' or '(' or '{' or '[' or '<' || JinjaLexer.IsWhiteSpace(letters[i]);
            letters[i] = begins ? char.ToUpperInvariant(letters[i]) : char.ToLowerInvariant(letters[i]);
            begins = separates;
        }
        return text.With(new string(letters));
    }

    private static TaggedText Escape(TaggedText text, Work work)
    {
        TaggedTextBuilder result = new(work);
        int from = 0;
        for (int i = 0; i < text.Length; i++)
        {
            string? escape = text.Value[i] switch { '&' => "&amp;", '<' => "&lt;", '>' => "&gt;", '\'' => "&#39;", '"' => "&#34;", _ => null };
            if (escape is null)
            {
                continue;
            }

            result.Append(text.Slice(from, i - from)).Append(escape, text.LeastOf(i, 1));
            from = i + 1;
        }
        return result.Append(text.Slice(from, text.Length - from)).ToText();
    }

    private static TaggedText Indent(TaggedText text, Arguments arguments, Work work)
    {
        object? width = arguments.Get(0, "width");
        TaggedText by = width as TaggedText ?? new TaggedText(new string(' ', (int)Math.Clamp(arguments.Integer(0, "width", 4), 0, 1000)), Origin.Template);
        bool blank = arguments.Truth(2, "blank", false);
        // As in Jinja, a line break is added first, so that one at the end of the text is kept.
        TaggedText ended = new TaggedTextBuilder(work).Append(text).Append("\n", Origin.Template).ToText();
        IReadOnlyList<object?> lines = Splitting.Lines(ended, keepEnds: false, work).Items;
        TaggedTextBuilder result = new(work);
        for (int i = 0; i < lines.Count; i++)
        {
            TaggedText line = (TaggedText)lines[i]!;
            if (i > 0)
            {
                result.Append("\n", Origin.Template);
            }

            if (i == 0 ? arguments.Truth(1, "first", false) : blank || line.Length > 0)
            {
                result.Append(by);
            }

            result.Append(line);
        }
        return result.ToText();
    }
}
