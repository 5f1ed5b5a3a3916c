using System;
using System.IO;
using System.Linq;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;
using Mono.Cecil;

/// <summary>
/// Copies an assembly and makes the named types, and their internal members, public in the copy. The copy is something to compile against, never
/// something to run: private and protected members stay as they are, so that overriding works as with the original.
/// Compiled by MSBuild itself (RoslynCodeTaskFactory, C# 7.3 at most) from Publicize.targets.
/// </summary>
public sealed class PublicizeTypes : Task
{
    [Required]
    public string Source { get; set; }

    [Required]
    public string Destination { get; set; }

    /// <summary>Full names of the types; a nested type is written Outer/Inner.</summary>
    [Required]
    public ITaskItem[] Types { get; set; }

    public override bool Execute()
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Destination));
        string unfinished = Destination + "." + Guid.NewGuid().ToString("N");
        using (ModuleDefinition module = ModuleDefinition.ReadModule(Source))
        {
            foreach (string name in Types.Select(item => item.ItemSpec))
            {
                TypeDefinition type = module.GetType(name);
                if (type == null)
                {
                    Log.LogError("{0} has no type {1}. This version of ML.NET differs from the one that the library was written for; see MLNetInternals.cs.",
                        Source, name);
                    return false;
                }

                Publicize(type);
            }

            module.Write(unfinished);
        }

        // Renamed only when whole: an interrupted build leaves no half-written reference behind.
        File.Delete(Destination);
        File.Move(unfinished, Destination);
        return true;
    }

    private static void Publicize(TypeDefinition type)
    {
        if (type.IsNotPublic)
        {
            type.IsPublic = true;
        }
        else if (type.IsNestedAssembly)
        {
            type.IsNestedPublic = true;
        }

        foreach (MethodDefinition method in type.Methods.Where(method => method.IsAssembly))
        {
            method.IsPublic = true;
        }

        foreach (FieldDefinition field in type.Fields.Where(field => field.IsAssembly))
        {
            field.IsPublic = true;
        }
    }
}
