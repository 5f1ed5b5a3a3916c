using System.Collections;
using System.ComponentModel;
using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Options;

namespace MLNetLora.AspNetCore;

/// <summary>Options from a configuration, where whatever means nothing is said in sentences. The binder itself reads over one value for a list of them: with
/// ApiKeys in place of ApiKeys:0 a service would be open to everybody.</summary>
internal static class Settings
{
    /// <summary>Sets options.</summary>
    /// <param name="section">What they are, by their names.</param>
    /// <param name="options">They.</param>
    /// <param name="name">Theirs, for errors.</param>
    /// <param name="besides">Keys of the section that are others'.</param>
    /// <exception cref="OptionsValidationException">A key is none of the options, or a value is none of its option. No value of a list is shown: it may be a
    /// secret.</exception>
    public static void Bind(IConfiguration section, object options, string name, params string[] besides)
    {
        PropertyInfo[] known = options.GetType().GetProperties();
        List<string> faults = [];
        foreach (IConfigurationSection child in section.GetChildren().Where(child => !besides.Contains(child.Key, StringComparer.OrdinalIgnoreCase)))
        {
            PropertyInfo? property = Array.Find(known, property => property.Name.Equals(child.Key, StringComparison.OrdinalIgnoreCase));
            string? fault = property is null
                ? $"{child.Path} is none of the settings: {string.Join(", ", known.Select(setting => setting.Name))}."
                : IsList(property.PropertyType) ? ListFault(child, property.PropertyType) : ValueFault(child, property.PropertyType);
            if (fault is not null)
            {
                faults.Add(fault);
            }
        }

        if (faults.Count > 0)
        {
            throw new OptionsValidationException(name, options.GetType(), faults);
        }

        section.Bind(options);
    }

    private static bool IsList(Type type) => type != typeof(string) && type.IsAssignableTo(typeof(IEnumerable));

    private static string? ListFault(IConfigurationSection list, Type type)
    {
        string first = type.GetGenericArguments().Length > 1 ? "NAME" : "0";
        return list.Value is { Length: > 0 }
            ? $"{list.Path} has a value of its own, but is a list: set {list.Path}:{first} "
                + $"(as a variable {list.Path.Replace(":", "__", StringComparison.Ordinal)}__{first})."
            : list.GetChildren().FirstOrDefault(entry => entry.Value is null || entry.GetChildren().Any()) is { } entry ? $"{entry.Path} must be one text."
            : null;
    }

    [SuppressMessage("Design", "CA1031:Do not catch general exception types", Justification = "Converters throw what they like.")]
    private static string? ValueFault(IConfigurationSection setting, Type type)
    {
        if (setting.GetChildren().FirstOrDefault() is { } below)
        {
            return $"{below.Path} is no setting: {setting.Path} has one value.";
        }

        if (setting.Value is not { } value || (value.Length == 0 && Nullable.GetUnderlyingType(type) is not null))
        {
            return null;
        }

        Type bare = Nullable.GetUnderlyingType(type) ?? type;
        try
        {
            TypeDescriptor.GetConverter(bare).ConvertFromInvariantString(value);
            return bare == typeof(TimeSpan) && !value.Contains(':') // what is no more than a number would be days
                ? Sentence()
                : null;
        }
        catch (MLNetLoraException e)
        {
            return $"{setting.Path}: {e.Message}";
        }
        catch (Exception)
        {
            return Sentence();
        }

        string Sentence() => $"{setting.Path} is '{value}'; it must be {Allowed(bare)}.";
    }

    private static string Allowed(Type type) =>
        type.IsEnum ? $"one of {string.Join(", ", Enum.GetNames(type))}"
        : type == typeof(bool) ? "true or false"
        : type == typeof(TimeSpan) ? "a time as hours:minutes:seconds, such as 00:00:30"
        : type == typeof(int) ? $"a whole number up to {int.MaxValue}"
        : type == typeof(long) ? $"a whole number up to {long.MaxValue}"
        : $"a {type.Name}";
}
